//! Random stacks: that the API server accepts them is what the properties take for granted, and that it accepts what they
//! become is what the properties alone cannot tell.

use proptest::{strategy::ValueTree, test_runner::TestRunner};

use super::{
    generate,
    server::{Server, Store},
    support::objects,
};

/// A tenth of a second each.
const STACKS: usize = 40;

pub async fn they_and_their_objects_are_accepted(server: &Server) {
    use proptest::strategy::Strategy;
    let namespace = server.namespace("random").await;
    // The same ones each time.
    let mut runner = TestRunner::deterministic();
    for _ in 0..STACKS {
        let fixture = generate::fixtures().new_tree(&mut runner).unwrap().current();
        let accepted = server.create(&namespace, &fixture.0, Store::No).await;
        assert!(accepted.is_ok(), "{}: {accepted:?}", fixture.0);
        for object in objects(&fixture.clone().build()) {
            let accepted = server.create_object(&namespace, object.kind, &object.body, Store::No).await;
            assert!(accepted.is_ok(), "{} of {}: {accepted:?}", object.key(), fixture.0);
        }
    }
}
