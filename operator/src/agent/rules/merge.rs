//! Merges a stack's rules into the document that its bucket has, writes it, reads it back and compares. S3 has no conditional
//! write for these documents, so a round ends only when what was written is still there after a pause.

use std::time::Duration;

use super::wanted::PRIORITY;
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Rule, RuleDocument, Sent};

/// How often the document is written anew before another client is told to undo it.
const ROUNDS: usize = 8;
/// How often it is read until what was written shows.
const LOOKS: usize = 5;

/// The rules that a stack asks for of one kind, and how to find those that it has.
pub(super) struct Asked<'a> {
    pub(super) ids: &'a str,
    pub(super) rules: Vec<Rule>,
    /// The role of a replication.
    pub(super) role: Option<&'a str>,
}

/// A rule that the server does not keep as it was sent, and why.
pub(super) type NotKept = (String, String);

/// Makes the document hold what is asked, as far as the server can.
pub(super) async fn bring_about(
    bucket: &BucketClient,
    before: RuleDocument,
    mut asked: Asked<'_>,
    pause: Duration,
) -> Result<Vec<NotKept>, ServiceError> {
    let mut not_kept = Vec::new();
    let mut before = before;
    for _ in 0..ROUNDS {
        if asked.is_met_by(&before) {
            return Ok(not_kept);
        }
        if let Some(why) = asked.foreign_role(&before) {
            not_kept.extend(asked.rules.drain(..).map(|rule| (rule.id, why.clone())));
            continue;
        }
        let merged = asked.merged(&before);
        match bucket.send_rules(&merged).await? {
            Sent::Taken => {
                let back = look(bucket, &before, &merged, pause).await?;
                take_off(bucket, (&before, &merged, &back), &mut asked, &mut not_kept).await?;
            }
            Sent::Refused(why) if asked.rules.len() <= 1 => {
                let Some(rule) = asked.rules.pop() else { return Err(bucket.unsupported(&why)) };
                not_kept.push((rule.id, why));
            }
            Sent::Refused(_) => one_by_one(bucket, &before, &mut asked, &mut not_kept).await?,
        }
        tokio::time::sleep(pause).await;
        before = bucket.rules(before.kind()).await?;
    }
    Err(bucket.contended(before.kind().as_str()))
}

impl Asked<'_> {
    fn is_ours(&self, rule: &Rule) -> bool {
        rule.id.starts_with(self.ids)
    }

    /// Whether the document has exactly these of the stack's rules.
    pub(super) fn is_met_by(&self, document: &RuleDocument) -> bool {
        let ours: Vec<&Rule> = document.rules.iter().filter(|rule| self.is_ours(rule)).collect();
        let has = |wanted: &Rule| {
            let there = ours.iter().find(|rule| rule.id == wanted.id);
            there.is_some_and(|there| document.facts(wanted).difference(&document.facts(there)).is_none())
        };
        let role = self.rules.is_empty() || self.role.is_none() || self.role == document.role().as_deref();
        ours.len() == self.rules.len() && self.rules.iter().all(has) && role
    }

    /// What the document has otherwise than it is asked for, in words. `None`: nothing.
    pub(super) fn missed_by(&self, document: &RuleDocument) -> Option<String> {
        if self.is_met_by(document) {
            return None;
        }
        let differs = self.rules.iter().find_map(|wanted| {
            let Some(there) = document.rules.iter().find(|there| there.id == wanted.id) else {
                return Some(format!("the bucket has no rule {}", wanted.id));
            };
            let why = document.facts(wanted).difference(&document.facts(there))?;
            Some(format!("the rule {} is another one: {why}", wanted.id))
        });
        Some(differs.unwrap_or_else(|| format!("the bucket has other rules of {}, or another role", self.ids)))
    }

    /// A document has one role for all of its rules, and the rules of others need theirs.
    fn foreign_role(&self, document: &RuleDocument) -> Option<String> {
        let role = self.role.filter(|_| !self.rules.is_empty())?;
        let theirs = document.role().filter(|theirs| theirs != role)?;
        document.rules.iter().any(|rule| !self.is_ours(rule)).then(|| {
            format!(
                "rules of others in the bucket use the role {theirs}, and a bucket has one for all: write it in roleARN"
            )
        })
    }

    fn merged(&self, document: &RuleDocument) -> RuleDocument {
        let mut merged = document.clone();
        merged.rules.retain(|rule| !self.is_ours(rule));
        let last = merged.rules.iter().filter_map(|rule| priority(&rule.text)).max().unwrap_or(0);
        for rule in &self.rules {
            let text = rule.text.replace(PRIORITY, &format!("<Priority>{}</Priority>", last + 1));
            merged.rules.push(Rule { id: rule.id.clone(), text });
        }
        if let Some(role) = self.role.filter(|_| !self.rules.is_empty()) {
            merged.set_role(role);
        }
        merged
    }
}

fn priority(text: &str) -> Option<u32> {
    text.split_once("<Priority>")?.1.split_once('<')?.0.trim().parse().ok()
}

/// What the bucket has once something else shows than before: a server may answer for a while as if nothing had been written.
async fn look(
    bucket: &BucketClient,
    before: &RuleDocument,
    sent: &RuleDocument,
    pause: Duration,
) -> Result<RuleDocument, ServiceError> {
    let mut back = bucket.rules(sent.kind()).await?;
    for _ in 1..LOOKS {
        if back.rules != before.rules || back.role() != before.role() {
            break;
        }
        tokio::time::sleep(pause).await;
        back = bucket.rules(sent.kind()).await?;
    }
    Ok(back)
}

/// Takes off at once what came back otherwise than it was sent: a rule that the server understood as a wider one deletes what it
/// must not.
async fn take_off(
    bucket: &BucketClient,
    (before, sent, back): (&RuleDocument, &RuleDocument, &RuleDocument),
    asked: &mut Asked<'_>,
    not_kept: &mut Vec<NotKept>,
) -> Result<(), ServiceError> {
    if let Some(changed) = changed_foreign(asked, before, back) {
        // Nothing of ours is worth a change of a rule that is somebody else's.
        put_back(bucket, &without_ours(asked, before)).await?;
        let why = format!("the server changes the rule {changed} of somebody else when it takes ours");
        not_kept.extend(asked.rules.drain(..).map(|rule| (rule.id, why.clone())));
        return Ok(());
    }
    // One that begins so is of another stack, which may write at the same moment.
    let known = |rule: &Rule| rule.id.starts_with("rorun-") || before.rules.iter().any(|foreign| foreign.id == rule.id);
    let strays: Vec<Rule> =
        back.rules.iter().filter(|rule| !known(rule) && is_one_of(asked, sent, rule)).cloned().collect();
    let mut wrong = Vec::new();
    for rule in &asked.rules {
        let there = back.rules.iter().find(|there| there.id == rule.id);
        let why = match there {
            Some(there) => sent.facts(rule).difference(&back.facts(there)),
            None if strays.is_empty() && (back.rules != before.rules || !before.rules.is_empty()) => {
                // Another client has written meanwhile: the next round sees.
                (back.rules == before.rules).then(|| "the server accepts the rule and does not keep it".to_owned())
            }
            None if strays.is_empty() => Some("the server accepts the rule and does not keep it".to_owned()),
            None => Some("the server does not keep the id of a rule, by which it is found again".to_owned()),
        };
        wrong.extend(why.map(|why| (rule.id.clone(), why)));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    asked.rules.retain(|rule| wrong.iter().all(|(id, _)| *id != rule.id));
    let mut kept = asked.merged(back);
    kept.rules.retain(|rule| !strays.contains(rule));
    not_kept.extend(wrong);
    put_back(bucket, &kept).await
}

/// A server that does not take back what it had leaves a rule that must not stay.
async fn put_back(bucket: &BucketClient, document: &RuleDocument) -> Result<(), ServiceError> {
    match bucket.send_rules(document).await? {
        Sent::Taken => Ok(()),
        Sent::Refused(why) => {
            Err(bucket
                .unsupported(&format!("a rule that it changed could not be taken off, so remove it by hand: {why}")))
        }
    }
}

fn without_ours(asked: &Asked<'_>, document: &RuleDocument) -> RuleDocument {
    let mut document = document.clone();
    document.rules.retain(|rule| !asked.is_ours(rule));
    document
}

/// Whether a rule that nobody had says what one of ours does, or has no id: then it is one of ours that lost its id.
fn is_one_of(asked: &Asked<'_>, sent: &RuleDocument, rule: &Rule) -> bool {
    let facts = sent.facts(rule);
    rule.id.is_empty() || asked.rules.iter().any(|ours| sent.facts(ours) == facts)
}

/// The id of a rule of somebody else that came back otherwise. One that is gone, or is new, may be the work of another stack.
fn changed_foreign(asked: &Asked<'_>, before: &RuleDocument, back: &RuleDocument) -> Option<String> {
    let foreign = before.rules.iter().filter(|rule| !asked.is_ours(rule) && !rule.id.is_empty());
    foreign
        .filter(|rule| {
            let there = back.rules.iter().find(|there| there.id == rule.id);
            match there {
                Some(there) => before.facts(rule).difference(&back.facts(there)).is_some(),
                None => !rule.id.starts_with("rorun-") && !back.rules.is_empty(),
            }
        })
        .map(|rule| rule.id.chars().filter(char::is_ascii_graphic).take(80).collect())
        .next()
}

/// One of several is refused: which?
async fn one_by_one(
    bucket: &BucketClient,
    before: &RuleDocument,
    asked: &mut Asked<'_>,
    not_kept: &mut Vec<NotKept>,
) -> Result<(), ServiceError> {
    let rules = std::mem::take(&mut asked.rules);
    for rule in rules {
        asked.rules.push(rule);
        if let Sent::Refused(why) = bucket.send_rules(&asked.merged(before)).await?
            && let Some(rule) = asked.rules.pop()
        {
            not_kept.push((rule.id, why));
        }
    }
    Ok(())
}
