//! Changes a stack as its schema allows, and as it does not: every leaf of the definition with values at the ends of its range,
//! of another type, and without a meaning. What admission takes must end as if it had been so from the start (O5), must leave
//! nothing behind when it is taken back (O6), and must show (O7).

mod bases;
mod chain_run;
mod elsewhere;
mod judge;
mod schema;
mod shared;
mod stand_in;
mod values;
mod watched;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use futures::StreamExt;
use rorun_e2e::engine::progress::Step;
use serde_json::{Value, json};

use self::bases::Base;
use self::chain_run::{Chain, ChainRun};
use self::schema::{Change, Form, Schema, form};
use self::shared::Shared;
use crate::play::found_plans;
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};

const NAME: &str = "mutation";

/// Every leaf of the definition, with values that it takes and that it does not.
pub(crate) const SUITE: Suite = Suite {
    name: NAME,
    proves: "any value of any field ends as if it had been there from the start, shows, and can be taken back",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

/// Chains side by side: most of their time they wait.
const AT_ONCE: usize = 16;
/// Stacks of each base to learn from.
const CLEAN_RUNS: usize = 3;
/// The seed of the chains of the whole form.
const SEED: u64 = 20;
/// The quick form makes as many changes, and takes each so many after the one before: it comes to all parts of the schema.
const QUICK: (usize, usize) = (100, 41);
const CHAIN: usize = 10;
/// How many problems a verdict lists.
const TOLD: usize = 12;

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let schema = Schema::read()?;
    let mut chains = match &run.extent {
        Extent::Only(plan) => vec![serde_json::from_value(plan.clone()).context("this is no plan of this suite")?],
        Extent::Quick => quick(&schema),
        Extent::Whole => whole(&schema),
    };
    if !matches!(run.extent, Extent::Only(_)) {
        chains.extend(found_plans::<Chain>(NAME)?);
    }
    let shared = Shared::open(run.cache, CLEAN_RUNS).await?;
    let masked: usize = Base::ALL.iter().map(|base| shared.masks(*base).count()).sum();
    let step = Step::start(
        &format!(
            "{} chains of {} changes",
            chains.len(),
            chains.iter().map(|chain| chain.changes.len()).sum::<usize>()
        ),
        &format!("seed {SEED}; {masked} paths differ by themselves"),
    );
    let mut secrets = BTreeSet::new();
    {
        let mut playing = futures::stream::iter(chains).map(|chain| play(&shared, chain)).buffer_unordered(AT_ONCE);
        while let Some(played) = playing.next().await {
            let (verdict, known) = played?;
            secrets.extend(known);
            run.report(&verdict)?;
        }
    }
    step.done();
    run.report(&logged(&shared, &secrets)?)?;
    if run.extent == Extent::Whole {
        run.report(&covered(&shared))?;
    }
    print_counts(&shared);
    Ok(())
}

async fn play(shared: &Shared, chain: Chain) -> Result<(Verdict, Vec<String>)> {
    let mut chain_run = ChainRun::begin(shared, chain.base).await?;
    chain_run.play(&chain).await?;
    let (mut problems, secrets) = chain_run.end();
    problems.truncate(TOLD);
    let changes: Vec<String> = chain.changes.iter().map(ToString::to_string).collect();
    let plan = format!("{:?}: {}", chain.base, changes.join("; "));
    Ok((Verdict { plan, problems, replay: serde_json::to_value(&chain)? }, secrets))
}

/// Every change, drawn into chains by the seed.
fn whole(schema: &Schema) -> Vec<Chain> {
    let mut draw = Draw(SEED);
    let mut chains = Vec::new();
    for base in Base::ALL {
        let mut changes: Vec<Change> =
            values::changes(schema).into_iter().filter(|change| Base::of(&change.place) == base).collect();
        for index in (1..changes.len()).rev() {
            changes.swap(index, draw.below(index + 1));
        }
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(1 + draw.below(CHAIN)));
            let changes = std::mem::replace(&mut changes, rest);
            chains.push(Chain { base, changes: steps(schema, changes) });
        }
    }
    chains.extend(always());
    chains
}

fn steps(schema: &Schema, changes: Vec<Change>) -> Vec<Change> {
    changes.into_iter().flat_map(|change| values::steps(schema, change)).collect()
}

/// Some changes of all parts of the schema, always the same.
fn quick(schema: &Schema) -> Vec<Chain> {
    let (count, stride) = QUICK;
    let all = values::changes(schema);
    let mut chains = Vec::new();
    let picked: Vec<&Change> = (0..count).map(|index| &all[index * stride % all.len()]).collect();
    for base in Base::ALL {
        let changes: Vec<Change> =
            picked.iter().filter(|change| Base::of(&change.place) == base).map(|change| (*change).clone()).collect();
        chains
            .extend(changes.chunks(CHAIN / 2).map(|changes| Chain { base, changes: steps(schema, changes.to_vec()) }));
    }
    chains.extend(always());
    chains
}

/// Chains that every change of the sources has to pass: a component whose name an object of another owner has,
/// parts that go, and an address that leads elsewhere.
fn always() -> Vec<Chain> {
    let change = |place: &str, value: Option<Value>| Change { place: place.to_owned(), value };
    let of = |base, changes: Vec<Change>| Chain { base, changes };
    vec![
        of(Base::Staging, vec![change("admin", Some(json!({"image": "rorun-admin:1"})))]),
        of(Base::Staging, vec![change("bucket/external/endpoint", Some(json!("http://127.0.0.1:2")))]),
        of(Base::Ingress, vec![change("ingress/ocrHost", None), change("ocr", None)]),
        of(Base::Ingress, vec![change("ingress/adminHost", None)]),
        of(Base::Ingress, vec![change("api/podLabels", Some(json!({"x": "aü".repeat(1500), "y": "ü".repeat(1500)})))]),
        of(Base::Backup, vec![change("backup", None)]),
        of(Base::Development, vec![change("deletionPolicy", Some(json!("Delete")))]),
    ]
}

/// The log holds no secret.
fn logged(shared: &Shared, secrets: &BTreeSet<String>) -> Result<Verdict> {
    let log = shared.log()?;
    let telling = log.lines().filter(|line| secrets.iter().any(|secret| line.contains(secret.as_str())));
    let problems: Vec<String> = telling.take(3).map(|line| format!("O8 the log tells a secret: {line}")).collect();
    Ok(Verdict { plan: "what was logged".to_owned(), problems, replay: Value::Null })
}

/// Every leaf was changed, and each shows in a child with at least one of its values; of one that all workloads have, one of
/// them is enough, since it may have come after another that it does not go together with.
fn covered(shared: &Shared) -> Verdict {
    let tallies = shared.tallies();
    let alike = |place: &str| match place.split_once('/') {
        Some(("api" | "ocr" | "admin", rest)) => format!("workload/{rest}"),
        _ => place.to_owned(),
    };
    let observed: BTreeSet<String> =
        tallies.iter().filter(|(_, count)| count.in_child > 0).map(|(place, _)| alike(place)).collect();
    let mut problems = Vec::new();
    for (place, _) in shared.schema.places().into_iter().filter(|(_, part)| form(part) == Form::Leaf) {
        let Some(count) = tallies.get(&place) else {
            problems.push(format!("{place} was never changed"));
            continue;
        };
        if !observed.contains(&alike(&place)) && !elsewhere::is_elsewhere(&place) {
            problems.push(format!("O7 {place}: no value shows in a child: {count:?}"));
        }
    }
    Verdict { plan: "every leaf".to_owned(), problems, replay: Value::Null }
}

fn print_counts(shared: &Shared) {
    let tallies = shared.tallies();
    let sum = |count: fn(&shared::Count) -> usize| tallies.values().map(count).sum::<usize>();
    let leaves = shared.schema.places().into_iter().filter(|(_, part)| form(part) == Form::Leaf);
    let (of, changed) =
        leaves.fold((0, 0), |(of, changed), (place, _)| (of + 1, changed + usize::from(tallies.contains_key(&place))));
    println!(
        "    {changed} of {of} leaves changed: {} values taken, {} of them reported as impossible, {} refused, {} without a difference",
        sum(|count| count.stored),
        sum(|count| count.bad),
        sum(|count| count.refused),
        sum(|count| count.without),
    );
}

/// Numbers that look random and are always the same (`SplitMix64`).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit.max(1) as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_in_the_whole_form_once_and_the_quick_one_takes_of_every_base() {
        let schema = Schema::read().expect("a schema");
        let planned: usize = whole(&schema).iter().map(|chain| chain.changes.len()).sum();
        let all = values::changes(&schema);
        let taken_away = all.iter().filter(|change| change.value.is_none()).count();
        let more: usize = always().iter().map(|chain| chain.changes.len()).sum();
        assert_eq!(planned, all.len() + taken_away + more, "{} and {taken_away}", all.len());
        let quick = quick(&schema);
        assert!(Base::ALL.iter().all(|base| quick.iter().filter(|chain| chain.base == *base).count() > 0));
        let changes: BTreeSet<String> =
            quick.iter().flat_map(|chain| &chain.changes).map(ToString::to_string).collect();
        assert!(changes.len() > QUICK.0 - 5, "{}", changes.len());
    }

    #[test]
    fn plans_that_found_something_can_be_played() {
        assert!(!found_plans::<Chain>(NAME).expect("plans").is_empty());
    }
}
