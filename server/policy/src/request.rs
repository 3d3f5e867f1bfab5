//! A query in Cedar's terms: at most five entities and one context, built per request.
//!
//! Every value goes in as a typed literal; nothing of a query is ever parsed as policy text.

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Expr,
};
use proto_types::{RoleName, SpiffeId};
use server_core::ports::{Action, Query};
use std::{
    collections::{HashMap, HashSet},
    str::FromStr as _,
    sync::LazyLock,
};

type Attributes = HashMap<String, Expr>;

/// Names that are parsed once.
struct Names {
    workload: EntityTypeName,
    trust_domain: EntityTypeName,
    target: EntityTypeName,
    role: EntityTypeName,
    start_task: EntityUid,
    exchange: EntityUid,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let kind = |name| EntityTypeName::from_str(name).expect("a type name of the embedded schema");
    let action = |id| EntityUid::from_type_name_and_id(kind("Action"), EntityId::new(id));
    Names {
        workload: kind("Workload"),
        trust_domain: kind("TrustDomain"),
        target: kind("Target"),
        role: kind("Role"),
        start_task: action("startTask"),
        exchange: action("exchange"),
    }
});

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: impl Into<String>) -> Expr {
    Expr::new_string(value.into())
}

/// `Err` says what could not be put into Cedar's terms; the caller denies.
pub(crate) fn build(query: &Query) -> Result<(Request, Entities), String> {
    let names = &*NAMES;
    let principal = uid(&names.workload, &query.workload.to_string());
    let domain = uid(&names.trust_domain, &query.trust_domain);
    let mut entities = vec![
        workload(&query.workload, query.workload_environment.as_deref())?,
        Entity::new_no_attrs(domain.clone(), HashSet::new()),
    ];
    entities.extend(foreign_domain(query));
    if let Some(parent) = query.parent.as_ref().filter(|p| **p != query.workload) {
        entities.push(workload(parent, None)?);
    }
    let resource = match &query.role {
        None => domain,
        Some(role) => {
            entities.extend(role_in_target(role, query.target_environment.as_deref())?);
            uid(&names.role, &role.to_string())
        }
    };
    let action = match query.action {
        Action::StartTask => names.start_task.clone(),
        Action::Exchange => names.exchange.clone(),
    };
    let request = Request::new(principal, action, resource, context(query)?, None).map_err(|e| e.to_string())?;
    let entities = Entities::from_entities(entities, None).map_err(|e| e.to_string())?;
    Ok((request, entities))
}

/// A workload of a federated trust domain stands in its own.
fn foreign_domain(query: &Query) -> Option<Entity> {
    let own = query.workload.trust_domain().to_string();
    (own != query.trust_domain).then(|| Entity::new_no_attrs(uid(&NAMES.trust_domain, &own), HashSet::new()))
}

fn workload(id: &SpiffeId, environment: Option<&str>) -> Result<Entity, String> {
    let domain = id.trust_domain().to_string();
    let parents = HashSet::from([uid(&NAMES.trust_domain, &domain)]);
    let mut attributes = environment_of(environment);
    attributes.insert("path".into(), text(id.path().to_string()));
    attributes.insert("trust_domain".into(), text(domain));
    Entity::new(uid(&NAMES.workload, &id.to_string()), attributes, parents).map_err(|e| e.to_string())
}

fn role_in_target(role: &RoleName, environment: Option<&str>) -> Result<[Entity; 2], String> {
    let target = uid(&NAMES.target, role.target());
    let mut attributes = environment_of(environment);
    let of_target = Entity::new(target.clone(), attributes.clone(), HashSet::new());
    attributes.insert("target".into(), text(role.target()));
    attributes.insert("name".into(), text(role.role()));
    let of_role = Entity::new(uid(&NAMES.role, &role.to_string()), attributes, HashSet::from([target]));
    Ok([of_target.map_err(|e| e.to_string())?, of_role.map_err(|e| e.to_string())?])
}

fn environment_of(environment: Option<&str>) -> Attributes {
    environment.map(|e| ("environment".to_string(), text(e))).into_iter().collect()
}

fn context(query: &Query) -> Result<Context, String> {
    let seconds = i64::try_from(query.ttl.as_secs()).unwrap_or(i64::MAX);
    let launcher = [("isolated".to_string(), Expr::new_bool(query.launcher_isolated))];
    let launcher = Expr::new_record(launcher).map_err(|e| e.to_string())?;
    let selectors = query.selectors.iter().map(|s| text(s.to_string()));
    let mut pairs = vec![
        ("intent".to_string(), text(query.intent.as_str())),
        ("ttl".to_string(), Expr::new_long(seconds)),
        ("node".to_string(), text(query.node.to_string())),
        ("uid".to_string(), Expr::new_long(i64::from(query.uid))),
        ("selectors".to_string(), Expr::new_set(selectors)),
        ("launcher".to_string(), launcher),
        ("depth".to_string(), Expr::new_long(i64::from(query.depth))),
    ];
    if let Some(parent) = &query.parent {
        let parent = uid(&NAMES.workload, &parent.to_string());
        pairs.push(("parent".to_string(), Expr::new_entity_uid(parent)));
    }
    Context::from_pairs(pairs).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Schema;
    use proto_types::{Selector, Timestamp, id::parse_spiffe_id};

    #[test]
    fn what_is_built_conforms_to_the_schema() {
        let (schema, _) = Schema::from_cedarschema_str(crate::SCHEMA).unwrap();
        let id = |text: &str| parse_spiffe_id(text).unwrap();
        let full = Query {
            action: Action::Exchange,
            workload: id("spiffe://prod.example.org/agents/planner"),
            role: Some("orders-db/readonly".parse().unwrap()),
            intent: "count \"orders\"\n".into(),
            ttl: std::time::Duration::from_secs(900),
            node: id("spiffe://example.org/spire/agent/n1"),
            uid: u32::MAX,
            selectors: vec![Selector::parse("unix:uid:1000").unwrap(), Selector::parse("unix:gid:1000").unwrap()],
            launcher_isolated: true,
            parent: Some(id("spiffe://example.org/agents/root")),
            depth: 8,
            now: Timestamp::from_secs(0),
            trust_domain: "example.org".into(),
            target_environment: Some("production".into()),
            workload_environment: Some("production".into()),
        };
        let bare = Query {
            action: Action::StartTask,
            workload: id("spiffe://example.org/agents/planner"),
            role: None,
            selectors: Vec::new(),
            parent: None,
            target_environment: None,
            workload_environment: None,
            ..full.clone()
        };
        for query in [full, bare] {
            let (request, entities) = build(&query).unwrap();
            assert!(entities.len() <= 64);
            request.context().unwrap().validate(&schema, request.action().unwrap()).unwrap();
            Entities::from_entities(entities, Some(&schema)).unwrap();
        }
    }
}
