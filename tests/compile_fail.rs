//! What the compiler refuses, and that it says what it expected; and what it must not refuse.

use agentbus_build::Builder;

#[test]
fn what_does_not_fit_does_not_compile() {
    generate();
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/compile_fail/*.rs");
    tests.pass("tests/compile_pass/*.rs");
}

/// Makes of one contract what the cases include, with every setting that changes the code.
fn generate() {
    let out_dir = concat!(env!("CARGO_TARGET_TMPDIR"), "/compile_fail");
    std::fs::create_dir_all(out_dir).expect("the directory can be made");
    Builder::new()
        .includes(["tests/compile_fail"])
        .bytes([".shop.v1.Order.picture"])
        .btree_map([".shop.v1.Order.labels"])
        .extern_path(".google.protobuf.Timestamp", "crate::Seconds")
        .type_attribute(".shop.v1.Receipt", "#[derive(PartialOrd, Ord)]")
        .field_attribute(".shop.v1.Receipt.number", "#[doc(alias = \"id\")]")
        .serde([".shop.v1.Receipt"])
        .out_dir(out_dir)
        .include_file("contract.rs")
        .emit_rerun_if_changed(false)
        .compile(["tests/compile_fail/shop.proto"])
        .expect("the contract has no faults");
}
