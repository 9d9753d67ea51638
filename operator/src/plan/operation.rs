//! What takes time and of which a stack does one at a time.

/// An operation. Of two that are asked for, the first one here goes on, and the other waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// The stack is being deleted.
    Deletion,
    /// The data of a recovery point become those of the stack.
    Restore,
    /// No pod is to run.
    Hibernation,
    /// A release is on its way.
    Release,
}

/// The operation that goes on, and what it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// The one that goes on.
    pub current: Option<Operation>,
    /// The one that is next, and the Job that it waits for.
    pub next: Option<(Operation, String)>,
}

/// Chooses. Every operation but a release interrupts a release that rolls out, and waits only for the end of a Job that works on
/// live data, of which the limit of the Job is the longest: no operation ends a migration or a dump half-way.
pub fn choose(asked: &[Operation], job: Option<&str>) -> Operations {
    let first = asked.iter().min().copied();
    let release = || asked.iter().copied().find(|operation| *operation == Operation::Release);
    match (first, job) {
        (Some(first), Some(job)) if first != Operation::Release => {
            Operations { current: release(), next: Some((first, job.to_owned())) }
        }
        _ => Operations { current: first, next: None },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{Operation::*, *};

    #[rstest]
    #[case::nothing(&[], Some("job/a"), None, None)]
    #[case::a_release_knows_its_own_jobs(&[Release], Some("job/a"), Some(Release), None)]
    #[case::sleep_interrupts_a_rollout(&[Release, Hibernation], None, Some(Hibernation), None)]
    #[case::sleep_waits_for_a_dump(&[Hibernation], Some("job/a"), None, Some(Hibernation))]
    #[case::the_migration_goes_on(&[Hibernation, Release], Some("job/a"), Some(Release), Some(Hibernation))]
    #[case::a_restore_interrupts_a_rollout(&[Release, Restore], None, Some(Restore), None)]
    #[case::a_restore_goes_before_sleep(&[Hibernation, Restore], None, Some(Restore), None)]
    #[case::a_restore_waits_for_a_migration(&[Restore, Release], Some("job/a"), Some(Release), Some(Restore))]
    #[case::deletion_is_first(&[Hibernation, Deletion, Release], None, Some(Deletion), None)]
    #[case::deletion_waits_too(&[Hibernation, Deletion], Some("job/a"), None, Some(Deletion))]
    fn one_at_a_time(
        #[case] asked: &[Operation],
        #[case] job: Option<&str>,
        #[case] current: Option<Operation>,
        #[case] next: Option<Operation>,
    ) {
        let chosen = choose(asked, job);
        assert_eq!((chosen.current, chosen.next.as_ref().map(|(next, _)| *next)), (current, next));
        assert!(chosen.next.is_none_or(|(_, waits_for)| Some(waits_for.as_str()) == job));
    }
}
