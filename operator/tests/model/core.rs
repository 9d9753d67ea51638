//! The pure core, state by state: three children, a cache that lags, a memory, users, faults and crashes. What is written is
//! decided by the operator's own engine ([`crate::reconcile`]).

use rorun_operator::objects::Digest;
use serde_json::{Value, json};
use stateright::{Model, Property};

use crate::{
    children::{CONFIG, Credentials, NAMESPACE, SECRET, Slot, VOLUME, desired, is_foreign, key, labelled, read, token},
    reconcile::{self, Step, numbered},
};

/// What the operator remembers of its last write of a child.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The uid that was answered.
    pub uid: String,
    /// The version that was answered.
    pub version: u32,
    /// The hash that was sent.
    pub hash: Digest,
    /// The digest of what was sent.
    pub owned: Digest,
}

/// What goes wrong with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// It is refused with 409, and not done.
    Conflict,
    /// It is done, and the answer is lost.
    Lost,
}

/// Something that the operator is made not to do, to prove that the checker would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// That writes name the uid.
    Uid,
    /// That writes name the version: a create then does not say that there must be nothing.
    Version,
    /// The look at the volumes before credentials are made up.
    Look,
}

/// What the operator keeps, which a crash takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    settled: [Option<Entry>; 3],
    minted: Option<u8>,
    /// The reconcile under way: the generation that it is about, what it saw, and the credentials that it goes by.
    reconcile: Option<(u8, [Slot; 3], Credentials)>,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    generation: u8,
    there: [Slot; 3],
    cache: [Slot; 3],
    memory: Memory,
    /// The newest version of each child, and how often it was made.
    versions: [u32; 3],
    made: [u32; 3],
    mints: u8,
    /// The credentials that were stored last.
    stored: Option<String>,
    /// What may still happen: edits, what users do to children, faults and crashes.
    left: u8,
    /// What must never happen and did.
    wrong: Option<&'static str>,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The user changes the spec.
    Edit(u8),
    /// Somebody deletes a child.
    Delete(usize),
    /// Somebody makes an object of a child's name.
    Occupy(usize),
    /// Somebody changes a child.
    Drift(usize),
    /// The cache sees a child as it is.
    CatchUp(usize),
    /// The memory of a write that the cache has not seen is too old.
    Expire(usize),
    /// The operator begins a reconcile or goes on with it, up to one write.
    Write(Fault),
    /// The operator is killed, and starts again.
    Crash,
}

impl Action {
    /// Whether it is more than the operator and its cache at work.
    fn disturbs(self) -> bool {
        !matches!(self, Self::CatchUp(_) | Self::Expire(_) | Self::Write(Fault::Pass))
    }
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    /// How much may happen.
    pub disturbances: u8,
    /// What is left out.
    pub flaw: Option<Flaw>,
}

impl State {
    /// Nothing is there, nothing was seen.
    fn begin(left: u8) -> Self {
        Self {
            generation: 0,
            there: Default::default(),
            cache: Default::default(),
            memory: Memory::default(),
            versions: [1; 3],
            made: [0; 3],
            mints: 0,
            stored: None,
            left,
            wrong: None,
        }
    }

    fn put(&mut self, child: usize, object: &Value) {
        if self.there[child].is_none() {
            self.made[child] += 1;
        }
        self.versions[child] += 1;
        self.there[child] = Some(numbered(object, &format!("uid-{}", self.made[child]), self.versions[child]));
        if child == SECRET {
            self.stored = token(self.there[child]).or_else(|| self.stored.take());
        }
    }

    /// The credentials that a reconcile goes by, as `controller/stack/credentials.rs` finds them: in the cache, in the memory, by a
    /// read from the API server, or made up.
    fn credentials(&mut self, flaw: Option<Flaw>) -> Credentials {
        if let Some(token) = Some(self.cache[SECRET]).filter(|slot| labelled(*slot)).and_then(token) {
            self.memory.minted = None;
            return Credentials::Known(token);
        }
        if let Some(minted) = self.memory.minted {
            return Credentials::Known(minted.to_string());
        }
        if self.there[VOLUME].is_some() && flaw != Some(Flaw::Look) {
            return token(self.there[SECRET]).map_or(Credentials::Lost, Credentials::Known);
        }
        self.mints += 1;
        self.memory.minted = Some(self.mints);
        Credentials::Known(self.mints.to_string())
    }

    /// The operator goes on, up to one write.
    fn write(&mut self, fault: Fault, flaw: Option<Flaw>) {
        let (generation, seen, credentials) = match self.memory.reconcile.take() {
            Some(reconcile) => reconcile,
            None => (self.generation, self.cache, self.credentials(flaw)),
        };
        let step = Step {
            generation,
            credentials: credentials.clone(),
            seen,
            there: self.there,
            settled: self.memory.settled.clone(),
            fault,
            flaw,
        };
        let done = reconcile::step(&step);
        if let Some((child, slot)) = &done.written {
            self.judge(*child, slot.as_ref());
            if let Some(object) = slot {
                self.put(*child, object);
            } else {
                self.versions[*child] += 1;
                self.there[*child] = None;
            }
        }
        for (child, hash, owned) in done.remembered.clone() {
            let uid = format!("uid-{}", self.made[child]);
            self.memory.settled[child] = Some(Entry { uid, version: self.versions[child], hash, owned });
        }
        if done.more && fault == Fault::Pass {
            self.memory.reconcile = Some((generation, seen, credentials));
        }
    }

    /// What the operator must never write.
    fn judge(&mut self, child: usize, new: Option<&Value>) {
        let before = self.there[child];
        let volume = self.there[VOLUME].is_some() && !is_foreign(self.there[VOLUME]);
        let after = new.and_then(|new| new["data"]["password"].as_str()).map(str::to_owned);
        if is_foreign(before) {
            self.wrong = Some("a foreign object was written");
        } else if new.is_none() && child != CONFIG {
            self.wrong = Some("data were deleted");
        } else if child == SECRET && before.is_some() && token(before) != after {
            self.wrong = Some("credentials were changed");
        } else if child == SECRET && before.is_none() && volume && after != self.stored {
            self.wrong = Some("credentials were made up though the volume was there");
        }
    }

    /// Whether everything becomes as it should be, if only the operator goes on and the cache keeps up.
    fn converges(&self) -> bool {
        self.settle().is_some_and(|end| end.wrong.is_none() && end.is_as_wanted())
    }

    /// The state when nothing is written any more, if the operator goes on and the cache keeps up.
    fn settle(&self) -> Option<State> {
        let mut state = self.clone();
        // A reconcile that ends without a write may have been refused or begun with old news: the next one, which follows, counts.
        let mut idle = 0;
        for _ in 0..16 {
            (0..3).for_each(|child| state.catch_up(child));
            let before = state.there;
            state.write(Fault::Pass, None);
            idle = if state.there == before && state.memory.reconcile.is_none() { idle + 1 } else { 0 };
            if idle == 2 {
                return Some(state);
            }
        }
        None
    }

    fn is_as_wanted(&self) -> bool {
        // A foreign Secret of the name stops the volume, and all that comes after it.
        if is_foreign(self.there[SECRET]) {
            return true;
        }
        let known = token(self.there[SECRET]).map_or(Credentials::Lost, Credentials::Known);
        if known == Credentials::Lost && self.there[VOLUME].is_none() {
            return false;
        }
        let wanted = desired(self.generation, &known);
        let fits = wanted.iter().all(|object| {
            let child =
                [SECRET, VOLUME, CONFIG].into_iter().find(|child| key(*child) == object.key()).unwrap_or(CONFIG);
            let there = read(self.there[child]);
            is_foreign(self.there[child])
                || (there["spec"] == object.body["spec"]
                    && there["data"] == object.body["data"]
                    && there["metadata"]["labels"] == object.body["metadata"]["labels"])
        });
        let pruned = self.generation < 2 || self.there[CONFIG].is_none() || is_foreign(self.there[CONFIG]);
        fits && pruned
    }

    fn catch_up(&mut self, child: usize) {
        // To a watch that selects by label, one that is not labelled is gone.
        if !labelled(self.there[child]) {
            self.memory.settled[child] = None;
        }
        self.cache[child] = self.there[child];
    }

    fn meddle(&mut self, action: Action) {
        match action {
            Action::Delete(child) => {
                self.versions[child] += 1;
                self.there[child] = None;
            }
            Action::Occupy(child) => {
                let foreign =
                    json!({"metadata": {"name": "s-child", "namespace": NAMESPACE}, "data": {"foreign": "yes"}});
                self.put(child, &foreign);
            }
            Action::Drift(child) => {
                let mut object = (*read(self.there[child])).clone();
                match child {
                    SECRET => drop(object["metadata"].as_object_mut().map(|metadata| metadata.remove("labels"))),
                    VOLUME => object["spec"]["size"] = json!("9Gi"),
                    _ => object["data"]["generation"] = json!("other"),
                }
                self.put(child, &object);
            }
            _ => {}
        }
    }
}

impl Model for Core {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let empty = State::begin(self.disturbances);
        match self.flaw {
            None => vec![empty],
            // What a flaw does shows soonest when everything is there.
            Some(_) => empty.settle().into_iter().collect(),
        }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.wrong.is_some() {
            return;
        }
        actions.push(Action::Write(Fault::Pass));
        if state.left > 0 {
            actions.extend([Fault::Conflict, Fault::Lost].map(Action::Write));
        }
        if state.left > 0 {
            actions.push(Action::Crash);
        }
        if state.left > 0 {
            actions.extend((0..3).filter(|generation| *generation != state.generation).map(Action::Edit));
        }
        for child in 0..3 {
            if state.cache[child] != state.there[child] {
                actions.push(Action::CatchUp(child));
                actions.extend(state.memory.settled[child].as_ref().map(|_| Action::Expire(child)));
            }
            if state.left > 0 {
                match state.there[child] {
                    None => actions.push(Action::Occupy(child)),
                    there if is_foreign(there) => actions.push(Action::Delete(child)),
                    Some(_) => actions.extend([Action::Delete(child), Action::Drift(child)]),
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.left -= u8::from(action.disturbs());
        match action {
            Action::Edit(generation) => {
                state.generation = generation;
            }
            Action::CatchUp(child) => state.catch_up(child),
            Action::Expire(child) => state.memory.settled[child] = None,
            Action::Write(fault) => {
                state.write(fault, self.flaw);
            }
            Action::Crash => {
                state.memory = Memory::default();
                state.cache = state.there;
            }
            Action::Delete(_) | Action::Occupy(_) | Action::Drift(_) => state.meddle(action),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is written that must not be", |_, state: &State| state.wrong.is_none()),
            Property::always("the end is as wanted, and nothing is written any more", |core: &Core, state: &State| {
                // Of a flawed operator only what it must never do is looked for.
                core.flaw.is_some() || state.wrong.is_some() || state.converges()
            }),
        ]
    }
}
