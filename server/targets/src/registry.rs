//! The kinds of target there are. Decides which kind reads a document; knows nothing of any kind but its name.

use crate::{aws::Aws, masks, postgres::Postgres, ssh::Ssh};
use proto_types::{TargetDoc, id::excerpt};
use server_core::ports::{KindContext, Mask, Target, TargetKind, TargetProblem};
use std::{collections::BTreeMap, sync::Arc};

/// A target beside the document it was built from.
pub type Built = (TargetDoc, Arc<dyn Target>);

/// Every kind this server can build.
pub struct Registry {
    kinds: Vec<Box<dyn TargetKind>>,
}

impl Registry {
    /// The kinds that ship with the server: one line each.
    pub fn builtin() -> Self {
        Self { kinds: vec![Box::new(Postgres), Box::new(Ssh), Box::new(Aws)] }
    }

    /// The names of the kinds, in the order they are registered.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.kinds.iter().map(|k| k.name()).collect()
    }

    /// The kind called `name`.
    pub fn kind(&self, name: &str) -> Option<&dyn TargetKind> {
        self.kinds.iter().find(|k| k.name() == name).map(AsRef::as_ref)
    }

    /// Builds one target without connecting to it. All problems at once.
    pub fn build(&self, doc: &TargetDoc, context: &KindContext) -> Result<Arc<dyn Target>, Vec<TargetProblem>> {
        self.kind_of(doc)?.build(doc, context)
    }

    /// Builds all of them, or says everything that is wrong with any of them.
    pub fn build_all(&self, docs: Vec<TargetDoc>, context: &KindContext) -> Result<Vec<Built>, Vec<TargetProblem>> {
        let mut problems = Vec::new();
        let mut built = Vec::with_capacity(docs.len());
        for doc in docs {
            match self.build(&doc, context) {
                Ok(target) => built.push((doc, target)),
                Err(mut more) => problems.append(&mut more),
            }
        }
        if problems.is_empty() { Ok(built) } else { Err(problems) }
    }

    /// The target's own side of the arrangement (`target show --setup`), when the kind has one.
    pub fn setup(&self, doc: &TargetDoc) -> Option<String> {
        self.kind(&doc.kind)?.setup(doc)
    }

    /// Statements that find and drop everything of ours while the server is down (`target show --by-hand`).
    pub fn by_hand(&self, doc: &TargetDoc, store_id: &str) -> Option<String> {
        self.kind(&doc.kind)?.by_hand(doc, store_id)
    }

    /// Everything that `errand run` masks: the union over the registered kinds and those known by name only, so that
    /// a developer's own credentials of any kind never win over the task's.
    pub fn masks(&self) -> Mask {
        let known = masks::KNOWN_KINDS.iter().filter_map(|kind| masks::mask_of(kind));
        let mut env = Vec::new();
        let mut set = BTreeMap::new();
        for mask in known.chain(self.kinds.iter().map(|k| k.mask())) {
            env.extend(mask.env);
            set.extend(mask.set);
        }
        env.sort();
        env.dedup();
        Mask { env, set }
    }

    fn kind_of(&self, doc: &TargetDoc) -> Result<&dyn TargetKind, Vec<TargetProblem>> {
        self.kind(&doc.kind).ok_or_else(|| {
            let problem =
                format!("kind `{}` is not known; the kinds are: {}", excerpt(&doc.kind), self.kinds().join(", "));
            vec![TargetProblem { target: doc.name.clone(), problem }]
        })
    }
}
