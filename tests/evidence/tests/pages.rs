//! The pages say what the data says, and the data names what is in the tree.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{collections::BTreeSet, fs};
use tests_evidence::{
    conformance, hardening, named, root,
    tree::{cases, functions},
};

#[test]
fn every_test_that_a_page_names_is_in_the_tree() {
    let there = functions(&root()).unwrap();
    let missing: Vec<_> = named().unwrap().into_iter().filter(|name| !there.contains(name)).collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
    assert!(!there.contains("a_test_that_is_not_there"));
}

#[test]
fn every_case_that_a_statement_names_is_in_a_table() {
    let there = cases(&root()).unwrap();
    let missing: Vec<_> = conformance::read().unwrap().cases().into_iter().filter(|c| !there.contains(c)).collect();
    assert!(missing.is_empty(), "no such case: {missing:?}");
}

#[test]
fn every_case_of_a_table_is_counted_and_has_a_twin() {
    for inputs in hardening::read().unwrap().inputs {
        let Some(table) = inputs.table else { continue };
        let count = table.count(&root()).unwrap();
        assert!(count.refused > 0, "{}: nothing is refused", table.file);
        assert_eq!(count.refused, count.twins, "{}: each bad input has an accepted twin", table.file);
    }
}

#[test]
fn the_pages_are_what_the_data_says() {
    let pages = [
        ("conformance.md", conformance::read().unwrap().page()),
        ("hardening.md", hardening::read().unwrap().page(&root()).unwrap()),
    ];
    for (name, page) in pages {
        let path = root().join("docs").join(name);
        if std::env::var_os("ERRAND_BLESS").is_some() {
            fs::write(&path, &page).unwrap();
        }
        let is = fs::read_to_string(&path).unwrap_or_default();
        assert!(is == page, "docs/{name} is not what the data says; run this test with ERRAND_BLESS=1");
    }
}

/// WA 2: what else an agent serves is a service of its own.
#[test]
fn the_workload_api_has_the_calls_of_its_standard_and_no_other() {
    let proto = fs::read_to_string(root().join("proto/wire/proto/spiffe/workload.proto")).unwrap();
    let service = proto.split_once("service SpiffeWorkloadAPI {").unwrap().1.split_once("\n}").unwrap().0;
    let calls: BTreeSet<_> =
        service.lines().filter_map(|l| l.trim().strip_prefix("rpc ")?.split_once('(')).map(|(name, _)| name).collect();
    let standard = [
        "FetchX509SVID",
        "FetchX509Bundles",
        "FetchJWTSVID",
        "FetchJWTBundles",
        "ValidateJWTSVID",
        "FetchWITSVID",
        "FetchWITBundles",
    ];
    assert_eq!(calls, standard.into());
}
