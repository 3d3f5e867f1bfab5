//! Which documents are compiled and which refused; each refused one beside a nearly identical one that is not.

use crate::query::{compile, doc};
use serde::Deserialize;
use server_core::ports::PolicyProblem;
use server_policy::{BUILT_IN, MAX_DOCUMENT, MAX_POLICIES};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    refused: String,
    accepted: String,
    /// Words of the first problem.
    problem: String,
    #[serde(default)]
    line: Option<usize>,
}

#[test]
fn every_refused_document_of_the_table_is_refused_and_its_twin_accepted() {
    let table: Table = toml::from_str(include_str!("../data/documents.toml")).unwrap();
    for case in table.case {
        let problems = refused(&case.refused);
        let text = problems[0].to_string();
        assert!(text.contains(&case.problem), "{}: {text}", case.name);
        assert!(text.starts_with("policy `d`"), "{}: {text}", case.name);
        assert!(case.line.is_none() || problems[0].line == case.line, "{}: {text}", case.name);
        if let Err(problems) = compile(&[doc("d", &case.accepted)]) {
            panic!("{}: its twin is refused: {problems:?}", case.name);
        }
    }
}

fn refused(text: &str) -> Vec<PolicyProblem> {
    compile(&[doc("d", text)])
        .err()
        .unwrap_or_else(|| panic!("accepted: {}", text.chars().take(200).collect::<String>()))
}

#[test]
fn all_problems_of_all_documents_are_told_at_once() {
    let docs = [
        doc(
            "a",
            "permit (principal, action, resource) when { principal.nope == 1 };\n@approval(\"x\") permit (principal, action, resource);",
        ),
        doc("b", "@max_ttl(\"5\") permit (principal, action, resource);"),
        doc("c", "permit (principal, action"),
    ];
    let problems = compile(&docs).err().unwrap();
    let of = |id: &str| problems.iter().filter(|p| p.policy == id).count();
    assert_eq!((of("a"), of("b"), of("c")), (2, 1, 1), "{problems:?}");
}

#[test]
fn one_id_names_one_policy_across_documents() {
    let named = "@id(\"x\") permit (principal, action, resource);";
    let problems = compile(&[doc("a", named), doc("b", named)]).err().unwrap();
    assert!(problems[0].to_string().contains("`x` already names a policy of document `a`"), "{problems:?}");
    compile(&[doc("a", named), doc("b", &named.replace("\"x\"", "\"y\""))]).unwrap();
    // The same document twice is the same names twice.
    let plain = "permit (principal, action, resource);";
    assert!(compile(&[doc("a", plain), doc("a", plain)]).is_err());
    compile(&[doc("a", plain), doc("b", plain)]).unwrap();
}

#[test]
fn the_built_in_policies_cannot_be_replaced() {
    let problems = refused(BUILT_IN);
    assert!(problems[0].to_string().contains("the house's own"), "{problems:?}");
}

#[test]
fn a_document_and_a_set_have_a_size() {
    let policy = "permit (principal, action, resource);\n";
    let full = policy.repeat(MAX_POLICIES);
    compile(&[doc("d", &full)]).unwrap();
    assert!(refused(&(full + policy))[0].to_string().contains("at most 1000 policies"));

    let mut long = format!("//{}\n{policy}", "x".repeat(MAX_DOCUMENT - policy.len() - 3));
    compile(&[doc("d", &long)]).unwrap();
    long.insert(2, 'x');
    assert!(refused(&long)[0].to_string().contains("at most 262144 bytes"));
}

#[test]
fn no_nesting_and_no_chain_reaches_the_end_of_the_stack() {
    let when = |expression: String| format!("permit (principal, action, resource) when {{ {expression} }};");
    let deep = |n: usize| when(format!("{}context.uid == 1{}", "(".repeat(n), ")".repeat(n)));
    let chain = |n: usize| when(vec!["context.uid == 1"; n].join(" || "));
    let ifs = |n: usize| when(format!("{}context.uid == 1", "if context.uid == 1 then true else ".repeat(n)));
    let many_ifs = |n: usize| when(format!("{}1", "if 1then 1else ".repeat(n)));
    let whens =
        |n: usize| format!("permit (principal, action, resource) {};", "when { principal in resource }".repeat(n));
    for good in [deep(30), chain(50), ifs(30), whens(30)] {
        compile(&[doc("d", &good)]).unwrap();
    }
    for bad in [deep(60), deep(100_000), chain(1000), ifs(50), ifs(5000), many_ifs(1050), many_ifs(15_000), whens(500)]
    {
        refused(&bad);
    }
}

/// The validator of Cedar 4.14 takes what it had no stack for as valid: the compiler must not run it on the caller's.
#[test]
fn a_mistake_at_the_end_of_a_long_policy_is_found_on_any_thread() {
    let ending = |last: &str| {
        let conditions = format!("{}{last}", "context.uid == 1 || ".repeat(40));
        format!("permit (principal, action, resource) when {{ {conditions} }};")
    };
    let small = std::thread::Builder::new().stack_size(256 * 1024);
    let check = move || {
        compile(&[doc("d", &ending("context.ttl == 1"))]).unwrap();
        assert!(refused(&ending("context.ttl.uid == 1"))[0].to_string().contains("saw Long"));
    };
    small.spawn(check).unwrap().join().unwrap();
}

#[test]
fn a_large_set_of_names_fits_in_one_policy() {
    let names: Vec<_> = (0..900).map(|n| format!("Role::\"orders-db/r{n}\"")).collect();
    let text = format!(
        "permit (principal, action, resource) when {{ resource is Role && [{}].contains(resource) }};",
        names.join(", ")
    );
    let _ = compile(&[doc("d", &text)]).map_err(|p| panic!("{p:?}"));
}
