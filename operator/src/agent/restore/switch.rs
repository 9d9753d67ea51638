//! `switch`: the live database gets the name under which it is kept, and the copy the name of the live one, in one transaction.
//!
//! A new connection takes a lock on its database before it is let in, and a renaming takes that lock for itself, until its
//! transaction ends. So connections are refused by the transaction that renames: while it holds the lock they wait, the sessions
//! that were there before are ended, and whoever waited is told after the renaming that there is no such database any more, or is
//! let in when there was none. Whatever kills this process ends the transaction, and with it the refusal: there is no state to
//! repair.

mod exchange;

use super::args::TargetArgs;
use super::error::{RestoreError, refused};
use super::maintenance::{APPLICATION, Found, LOCK_LIMIT, Maintenance};
use super::settings::Settings;
use super::verify::require_copy;
use crate::contract::{
    KeptDatabase, LOCK_KEYS, RestoreRefusal, RestoreResult, copy_database, kept_database, restore_comment,
};
use crate::services::postgres::{AdvisoryLock, LockRequest};

/// The names that change places.
pub(super) struct Names {
    pub(super) live: String,
    pub(super) copy: String,
    pub(super) kept: String,
    /// What the kept one says of itself.
    pub(super) comment: String,
}

/// How far the switch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The live database and a copy are there.
    ToDo,
    /// The live database is kept, and the copy has not got its name: somebody renamed by hand.
    Half,
    /// The live database is the one that was the copy.
    Done,
}

/// Switches, or finds that it was done.
pub(super) async fn switch(target: &TargetArgs) -> Result<RestoreResult, RestoreError> {
    let server = Maintenance::open(target).await?;
    let uid = &target.restore;
    let names = Names {
        live: server.live.clone(),
        copy: copy_database(&server.live, uid),
        kept: kept_database(&server.live, uid),
        comment: restore_comment(uid),
    };
    let _turn = server.turn(uid).await?;
    match state(&server, &names).await? {
        State::Done => {}
        State::Half => {
            require_copy(&server, &names.copy, uid).await?;
            exchange::exchange(&server, &names, false).await?;
        }
        State::ToDo => {
            require_copy(&server, &names.copy, uid).await?;
            server.refuse_held(&names.live).await?;
            server.refuse_held(&names.copy).await?;
            let (live, _) = server.connect(&names.live).await?;
            let request = LockRequest { keys: LOCK_KEYS, application: APPLICATION, limit: LOCK_LIMIT };
            let waits = |holder: &str| tracing::info!(holder, "the switch waits for a dump or a migration");
            // Held until its own session is the last to be ended: from then on nobody else gets one.
            let lock = AdvisoryLock::take(&live.target, request, waits).await?;
            Settings::read(&server.session, &names.live).await?.give(&server.session, &names.copy).await?;
            exchange::exchange(&server, &names, true).await?;
            drop(lock);
        }
    }
    let kept = KeptDatabase { size_bytes: server.size(&names.kept).await, name: names.kept };
    let bytes = Some(server.size(&names.live).await);
    Ok(RestoreResult { database: Some(names.live), kept: Some(kept), bytes, ..RestoreResult::default() })
}

async fn state(server: &Maintenance, names: &Names) -> Result<State, RestoreError> {
    let (live, copy) = (server.find(&names.live).await?, server.find(&names.copy).await?);
    let kept = server.find(&names.kept).await?;
    judge(live.as_ref(), copy.as_ref(), kept.as_ref(), names)
}

fn judge(
    live: Option<&Found>,
    copy: Option<&Found>,
    kept: Option<&Found>,
    names: &Names,
) -> Result<State, RestoreError> {
    let Names { live: live_name, copy: copy_name, kept: kept_name, comment } = names;
    let foreign = |message: String| Err(refused(RestoreRefusal::NotOfRestore, message));
    match (live.is_some(), copy.is_some(), kept) {
        (_, _, Some(kept)) if kept.comment.as_ref() != Some(comment) => foreign(format!(
            "database \"{kept_name}\" exists and is not kept by this restore, which its comment would say: rename or drop it"
        )),
        (true, false, Some(_)) => Ok(State::Done),
        (true, true, Some(_)) => foreign(format!(
            "both \"{kept_name}\" and \"{copy_name}\" exist: this restore was switched before; discard the second"
        )),
        (false, true, Some(_)) => Ok(State::Half),
        (true, _, None) => Ok(State::ToDo),
        (false, _, _) => Err(RestoreError::Failed(format!("failed to find the live database \"{live_name}\""))),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::to_do(true, true, None, Ok(State::ToDo))]
    #[case::without_a_copy(true, false, None, Ok(State::ToDo))]
    #[case::done(true, false, Some("c"), Ok(State::Done))]
    #[case::half(false, true, Some("c"), Ok(State::Half))]
    #[case::a_second_copy(true, true, Some("c"), Err("was switched before"))]
    #[case::the_name_is_taken(true, true, Some("other"), Err("is not kept by this restore"))]
    #[case::taken_by_one_that_looks_done(true, false, Some("c, not complete"), Err("is not kept by this restore"))]
    #[case::nothing_live(false, true, None, Err("failed to find the live"))]
    #[case::nothing_live_and_no_copy(false, false, Some("c"), Err("failed to find the live"))]
    fn the_state_is_that_of_the_names(
        #[case] live: bool,
        #[case] copy: bool,
        #[case] kept: Option<&str>,
        #[case] expected: Result<State, &str>,
    ) {
        let found = |comment: Option<&str>| Found { oid: "1".to_owned(), comment: comment.map(str::to_owned) };
        let [name_live, name_copy, name_kept] = ["live", "copy", "kept"].map(str::to_owned);
        let names = Names { live: name_live, copy: name_copy, kept: name_kept, comment: "c".to_owned() };
        let (live, copy) = (live.then(|| found(None)), copy.then(|| found(None)));
        let state = judge(live.as_ref(), copy.as_ref(), kept.map(|kept| found(Some(kept))).as_ref(), &names);
        match (state, expected) {
            (Ok(state), Ok(expected)) => assert_eq!(state, expected),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (state, expected) => panic!("{state:?} {expected:?}"),
        }
    }
}
