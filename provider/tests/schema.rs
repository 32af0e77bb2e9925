//! The provider's schema as a golden file: a change of what users write is seen in review.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests, and what supports them")]

use sindri::provider::Provider;

#[test]
fn the_schema_is_as_documented() {
    insta::assert_json_snapshot!(tfplugin::provider_schema_json(&Provider::default()));
}
