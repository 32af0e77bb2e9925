//! What `#[derive(Model)]` refuses, with the messages that it gives. Needs nothing of `tfplugin`: what is
//! refused never gets as far as naming it.

#[test]
fn contradictions_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
