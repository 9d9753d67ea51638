//! When a stack hibernates: its spec says so, its schedule does, or it has expired.
//!
//! The clock is passed in, so this is decided when the cluster is observed. Whether the stack may hibernate already, or waits
//! for a dump that runs, is for the plan to say.

use jiff::Timestamp;

use super::{Schedule, probing::duration};
use crate::{
    api::v1alpha1::{ExpiryStatus, HibernationSpec, RorunStack, RorunStackStatus},
    names::annotation,
};

/// How long a stack serves at least after `expiresAfter` was set, and how long before its end an Event tells of it, in seconds.
pub const EXPIRY_NOTICE: i64 = 3600;

/// Whether a stack is to hibernate now. Moments are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hibernation {
    /// Why it is to. `None`: it is to serve.
    pub cause: Option<Cause>,
    /// When the answer may be another one though nothing changes.
    pub turns_at: Option<i64>,
    /// When it expires. `None`: never.
    pub expiry: Option<Expiry>,
    /// The last status says that it hibernated.
    pub slept: bool,
    /// The last status says that it has woken before.
    pub has_woken: bool,
    /// What of the spec or the annotations cannot be used, in a sentence.
    pub problem: Option<String>,
}

/// Why a stack is to hibernate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// `hibernate` is true.
    Spec,
    /// The schedule says so, until this moment. `None`: `until` never comes again.
    Schedule(Option<i64>),
    /// It expired at this moment.
    Expired(i64),
}

/// When a stack expires.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expiry {
    /// The moment.
    pub at: i64,
    /// The value of `expiresAfter`.
    pub after: String,
    /// When this value was first observed.
    pub observed_at: i64,
    /// Whether it is near, and not yet over.
    pub soon: bool,
}

impl Hibernation {
    /// Decides for this moment. `told` is the last status.
    pub fn at(cr: &RorunStack, told: Option<&RorunStackStatus>, now: i64) -> Self {
        let slept = told.is_some_and(|told| told.hibernated_since.is_some());
        let has_woken = told.is_some_and(|told| told.hibernated_seconds.is_some());
        let mut decided = Self { slept, has_woken, ..Self::default() };
        if let Some(schedule) = &cr.spec.hibernation {
            match scheduled(schedule, now) {
                Ok((cause, turns_at)) => (decided.cause, decided.turns_at) = (cause, turns_at),
                Err(problem) => decided.problem = Some(problem),
            }
        }
        if cr.spec.hibernate == Some(true) {
            decided.cause = Some(Cause::Spec);
        }
        if let Some(after) = &cr.spec.expires_after {
            decided.expire(cr, after, told.and_then(|told| told.expiry.as_ref()), now);
        }
        decided
    }

    fn expire(&mut self, cr: &RorunStack, after: &str, told: Option<&ExpiryStatus>, now: i64) {
        // The CRD admits nothing else.
        let Some(lifetime) = duration(after).and_then(|lifetime| i64::try_from(lifetime.as_secs()).ok()) else {
            return;
        };
        let observed_at = told.filter(|told| told.after == after).map_or(now, |told| told.observed_at.0.as_second());
        let created = cr.metadata.creation_timestamp.as_ref().map_or(now, |created| created.0.as_second());
        let at = (created + lifetime).max(observed_at + EXPIRY_NOTICE);
        let put_off = cr.metadata.annotations.as_ref().and_then(|all| all.get(annotation::KEEP_UNTIL));
        let keep = put_off.and_then(|text| text.parse::<Timestamp>().ok());
        if let (Some(text), None) = (put_off, keep) {
            let key = annotation::KEEP_UNTIL;
            let problem =
                format!("the annotation {key} is {text:?}, which is no moment: write one as in 2026-05-04T18:00:00Z");
            self.problem.get_or_insert(problem);
        }
        let at = keep.map_or(at, |keep| at.max(keep.as_second()));
        let soon = at - EXPIRY_NOTICE;
        let next = [soon, at].into_iter().find(|moment| *moment > now);
        self.turns_at = self.turns_at.into_iter().chain(next).min();
        if now >= at {
            self.cause = Some(Cause::Expired(at));
        }
        self.expiry = Some(Expiry { at, after: after.to_owned(), observed_at, soon: (soon..at).contains(&now) });
    }
}

/// Whether a schedule says that a stack hibernates, and when that changes.
fn scheduled(spec: &HibernationSpec, now: i64) -> Result<(Option<Cause>, Option<i64>), String> {
    let zone = spec.time_zone.as_deref().unwrap_or("Etc/UTC");
    let parse = |field: &str, text: &str| {
        let parsed = Schedule::parse(text, zone).map_err(|problem| format!("spec.hibernation.{field}: {problem}"))?;
        match parsed.next(0) {
            Some(_) => Ok(parsed),
            None => Err(format!("spec.hibernation.{field}: schedule {text} never comes: no such day does")),
        }
    };
    let (from, until) = (parse("from", &spec.from)?, parse("until", &spec.until)?);
    let wakes_at = until.next(now);
    Ok(if from.previous(now) > until.previous(now) {
        (Some(Cause::Schedule(wakes_at)), wakes_at)
    } else {
        (None, from.next(now))
    })
}

impl Cause {
    /// As part of a sentence about the stack: `it hibernates ...`.
    pub fn because(self) -> String {
        let moment = |second| Timestamp::from_second(second).unwrap_or_default();
        match self {
            Self::Spec => "as spec.hibernate is true".to_owned(),
            Self::Schedule(Some(until)) => format!("by spec.hibernation until {}", moment(until)),
            Self::Schedule(None) => "by spec.hibernation".to_owned(),
            Self::Expired(at) => format!("since it expired at {} by spec.expiresAfter", moment(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn moment(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a moment").as_second()
    }

    fn decided(spec: &Value, annotations: &Value, status: &Value, now: &str) -> Hibernation {
        let mut all = json!({"environment": "Development", "api": {"image": "a"}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let cr = json!({"metadata": {"name": "shop", "creationTimestamp": "2026-05-01T00:00:00Z", "annotations": annotations},
            "spec": all, "status": status});
        let cr: RorunStack = serde_json::from_value(cr).expect("a stack");
        Hibernation::at(&cr, cr.status.as_ref(), moment(now))
    }

    /// Nights and weekends in Lagos, an hour ahead of UTC. 4 May 2026 is a Monday.
    #[rstest]
    #[case::monday_noon("2026-05-04T11:00:00Z", None, "2026-05-04T19:00:00Z")]
    #[case::monday_evening("2026-05-04T19:00:00Z", Some("2026-05-05T06:00:00Z"), "2026-05-05T06:00:00Z")]
    #[case::tuesday_morning("2026-05-05T06:00:00Z", None, "2026-05-05T19:00:00Z")]
    #[case::sunday("2026-05-10T12:00:00Z", Some("2026-05-11T06:00:00Z"), "2026-05-11T06:00:00Z")]
    fn a_schedule_covers_nights_and_weekends(#[case] now: &str, #[case] until: Option<&str>, #[case] turns_at: &str) {
        let nights =
            json!({"hibernation": {"from": "0 20 * * 1-5", "until": "0 7 * * 1-5", "timeZone": "Africa/Lagos"}});
        let found = decided(&nights, &json!({}), &json!({}), now);
        assert_eq!(found.cause, until.map(|until| Cause::Schedule(Some(moment(until)))));
        assert_eq!((found.turns_at, found.problem), (Some(moment(turns_at)), None));
    }

    #[rstest]
    #[case("61 * * * *", "0 7 * * *", "Etc/UTC", "spec.hibernation.from: schedule has the minute 61")]
    #[case("0 20 * * *", "0 0 30 2 *", "Etc/UTC", "spec.hibernation.until: schedule 0 0 30 2 * never comes")]
    #[case("0 20 * * *", "0 7 * * *", "Mars/Olympus", "timeZone Mars/Olympus is not known")]
    fn a_schedule_that_cannot_be_used_keeps_the_stack_awake(
        #[case] from: &str,
        #[case] until: &str,
        #[case] zone: &str,
        #[case] words: &str,
    ) {
        let spec = json!({"hibernation": {"from": from, "until": until, "timeZone": zone}});
        let found = decided(&spec, &json!({}), &json!({}), "2026-05-04T23:00:00Z");
        assert_eq!(found.cause, None);
        assert!(found.problem.is_some_and(|problem| problem.contains(words)));
    }

    const DAY: &str = "24h";

    /// A stack of 1 May.
    #[rstest]
    #[case::young(json!({}), json!({}), "2026-05-01T12:00:00Z", "2026-05-02T00:00:00Z", false)]
    #[case::near(json!({}), json!({}), "2026-05-01T23:30:00Z", "2026-05-02T00:30:00Z", true)]
    #[case::near_and_seen_before(
        json!({}), json!({"after": DAY, "observedAt": "2026-05-01T00:00:00Z"}), "2026-05-01T23:30:00Z", "2026-05-02T00:00:00Z", true
    )]
    #[case::an_old_stack_has_an_hour(json!({}), json!({}), "2026-05-09T12:00:00Z", "2026-05-09T13:00:00Z", true)]
    #[case::another_value_was_seen(
        json!({}), json!({"after": "48h", "observedAt": "2026-05-01T00:00:00Z"}), "2026-05-09T12:00:00Z", "2026-05-09T13:00:00Z", true
    )]
    #[case::put_off(
        json!({"rorun.app/keep-until": "2026-05-20T00:00:00Z"}), json!({"after": DAY, "observedAt": "2026-05-01T00:00:00Z"}),
        "2026-05-09T12:00:00Z", "2026-05-20T00:00:00Z", false
    )]
    #[case::put_off_to_before(
        json!({"rorun.app/keep-until": "2026-05-01T01:00:00Z"}), json!({"after": DAY, "observedAt": "2026-05-01T00:00:00Z"}),
        "2026-05-01T12:00:00Z", "2026-05-02T00:00:00Z", false
    )]
    fn a_stack_expires_after_its_creation_and_an_hour_after_the_field_at_the_earliest(
        #[case] annotations: Value,
        #[case] expiry: Value,
        #[case] now: &str,
        #[case] at: &str,
        #[case] soon: bool,
    ) {
        let status = if expiry == json!({}) { json!({}) } else { json!({"expiry": expiry}) };
        let found = decided(&json!({"expiresAfter": DAY}), &annotations, &status, now);
        let expiry = found.expiry.expect("it expires");
        assert_eq!((expiry.at, expiry.soon, found.cause), (moment(at), soon, None));
        let next = if soon { moment(at) } else { moment(at) - EXPIRY_NOTICE };
        assert_eq!(found.turns_at, Some(next));
    }

    #[test]
    fn one_that_has_expired_hibernates_whatever_the_schedule_says() {
        let spec = json!({"expiresAfter": DAY, "hibernation": {"from": "0 20 * * *", "until": "0 7 * * *"}});
        let seen = json!({"expiry": {"after": DAY, "observedAt": "2026-05-01T00:00:00Z"}});
        let found = decided(&spec, &json!({}), &seen, "2026-05-02T12:00:00Z");
        assert_eq!(found.cause, Some(Cause::Expired(moment("2026-05-02T00:00:00Z"))));
        let spec = json!({"expiresAfter": DAY});
        let broken = decided(&spec, &json!({"rorun.app/keep-until": "friday"}), &json!({}), "2026-05-01T12:00:00Z");
        assert!(broken.problem.is_some_and(|problem| problem.contains("\"friday\", which is no moment")));
    }
}
