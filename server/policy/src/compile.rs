//! Documents → a validated set. Everything that is wrong is said at once; nothing is half accepted.

use crate::{
    BUILT_IN, SCHEMA,
    decide::Compiled,
    obligation::{self, Notes},
    source::{self, MAX_POLICIES},
};
use cedar_policy::{Policy as CedarPolicy, PolicyId, PolicySet, Schema, ValidationMode, ValidationWarning, Validator};
use miette::Diagnostic;
use proto_types::{PolicyDoc, id::excerpt};
use server_core::ports::{Policy, PolicyCompiler, PolicyProblem};
use std::{collections::HashMap, sync::Arc};

/// Names that only policies of the house may take.
const RESERVED: &str = "errand-";
/// Stack of the compiling thread, bytes; reserved, not touched.
const STACK: usize = 64 * 1024 * 1024;
/// Longest problem text, characters: Cedar repeats what it could not read.
const MAX_PROBLEM: usize = 240;

/// The compiler. It holds the parsed schema: make one and keep it.
pub struct CedarCompiler {
    validator: Validator,
    built_in: PolicyDoc,
}

impl Default for CedarCompiler {
    fn default() -> Self {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the schema is embedded, and a test loads it");
        let built_in = PolicyDoc { id: "errand".into(), text: BUILT_IN.into(), revision: 1, origin: "built-in".into() };
        Self { validator: Validator::new(schema), built_in }
    }
}

impl PolicyCompiler for CedarCompiler {
    fn compile(&self, docs: &[PolicyDoc]) -> Result<Arc<dyn Policy>, Vec<PolicyProblem>> {
        // Cedar's validator takes a policy for valid, without a word, when the stack runs out under it. What `source`
        // lets through needs a small part of this one.
        let deep = std::thread::Builder::new().name("policy-compile".into()).stack_size(STACK);
        std::thread::scope(|scope| match deep.spawn_scoped(scope, || self.on_this_stack(docs)).map(|t| t.join()) {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Err(vec![whole_set("the compiler failed on these documents; apply them one by one".into())]),
            Err(why) => Err(vec![whole_set(format!("no thread to compile on: {why}; try again"))]),
        })
    }
}

impl CedarCompiler {
    fn on_this_stack(&self, docs: &[PolicyDoc]) -> Result<Arc<dyn Policy>, Vec<PolicyProblem>> {
        let mut build = Build::default();
        build.document(&self.built_in, true);
        let own = build.set.num_of_policies();
        for doc in docs {
            build.document(doc, false);
        }
        let total = build.set.num_of_policies() - own;
        if total > MAX_POLICIES {
            let problem = format!("a policy set has at most {MAX_POLICIES} policies, this one has {total}");
            build.problems.push(whole_set(problem));
        } else {
            // What could be read is validated even beside what could not: all problems at once.
            build.validate(&self.validator);
        }
        match build.problems.is_empty() {
            true => Ok(Arc::new(Compiled::new(build.set, build.notes, total == 0))),
            false => Err(build.problems),
        }
    }
}

fn whole_set(problem: String) -> PolicyProblem {
    PolicyProblem { policy: "all documents".into(), line: None, problem }
}

#[derive(Default)]
struct Build<'a> {
    set: PolicySet,
    notes: HashMap<PolicyId, Notes>,
    /// Where each policy came from.
    home: HashMap<PolicyId, &'a PolicyDoc>,
    problems: Vec<PolicyProblem>,
}

impl<'a> Build<'a> {
    fn problem(&mut self, doc: &PolicyDoc, line: Option<usize>, problem: impl AsRef<str>) {
        let problem = problem.as_ref().chars().take(MAX_PROBLEM).collect();
        self.problems.push(PolicyProblem { policy: doc.id.clone(), line, problem });
    }

    fn document(&mut self, doc: &'a PolicyDoc, built_in: bool) {
        if let Err((line, what)) = source::check(&doc.text) {
            return self.problem(doc, Some(line), what);
        }
        let parsed: PolicySet = match doc.text.parse() {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    self.problem(doc, line_of(error, &doc.text), error.to_string());
                }
                return;
            }
        };
        if parsed.num_of_templates() > 0 {
            self.problem(doc, None, "templates (?principal, ?resource) are not used here; write the names out");
        }
        let mut policies: Vec<&CedarPolicy> = parsed.policies().collect();
        policies.sort_by_key(|p| place(p));
        for (at, policy) in policies.into_iter().enumerate() {
            self.policy(doc, policy, at + 1, built_in);
        }
    }

    fn policy(&mut self, doc: &'a PolicyDoc, policy: &CedarPolicy, number: usize, built_in: bool) {
        let notes = match obligation::read(policy) {
            Ok(notes) => Notes { document: doc.id.clone(), ..notes },
            Err(problems) => {
                let what = |p: String| format!("policy {number}: {p}");
                return problems.into_iter().for_each(|p| self.problem(doc, None, what(p)));
            }
        };
        let name = notes.id.clone().unwrap_or_else(|| format!("{}#{number}", doc.id));
        if !built_in && name.starts_with(RESERVED) {
            let what = format!("policy {number}: ids that begin with `{RESERVED}` are the house's own; choose another");
            return self.problem(doc, None, what);
        }
        let id = PolicyId::new(&name);
        if let Some(other) = self.home.get(&id) {
            let what =
                format!("policy {number}: `{}` already names a policy of document `{}`", excerpt(&name), other.id);
            return self.problem(doc, None, what);
        }
        if let Err(why) = self.set.add(policy.new_id(id.clone())) {
            return self.problem(doc, None, format!("policy {number}: {why}"));
        }
        self.home.insert(id.clone(), doc);
        self.notes.insert(id, notes);
    }

    fn validate(&mut self, validator: &Validator) {
        let result = validator.validate(&self.set, ValidationMode::Strict);
        let errors = result.validation_errors().map(|e| (e.policy_id(), e as &dyn Diagnostic, e.to_string()));
        let warnings = result.validation_warnings().filter(|w| is_serious(w));
        let warnings = warnings.map(|w| (w.policy_id(), w as &dyn Diagnostic, w.to_string()));
        for (id, diagnostic, text) in errors.chain(warnings) {
            if let Some(doc) = self.home.get(id).copied() {
                self.problem(doc, line_of(diagnostic, &doc.text), text);
            }
        }
    }
}

/// A policy that can never apply protects or permits nothing, and text that reads differently than it is deceives.
/// Strings in two scripts are ordinary: people write intents in their own language.
fn is_serious(warning: &ValidationWarning) -> bool {
    !matches!(warning, ValidationWarning::MixedScriptString(_))
}

/// The place of a policy in its document: Cedar numbers them `policy0`, `policy1`, …
fn place(policy: &CedarPolicy) -> usize {
    policy.id().to_string().strip_prefix("policy").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX)
}

/// The line a diagnostic points at, from 1.
fn line_of(diagnostic: &dyn Diagnostic, text: &str) -> Option<usize> {
    let offset = diagnostic.labels()?.next()?.offset();
    Some(text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1)
}
