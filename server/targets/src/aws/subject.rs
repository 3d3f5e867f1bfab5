//! `subject`: what stands in `sub` of the token, and so what a role's trust policy decides by.
//!
//! An empty or unresolvable template means deny. Two different sets of values never give one subject: no two
//! placeholders touch, and no value holds the character that ends it.

use proto_types::id::excerpt;

/// The longest `sub` (OpenID Connect Core section 2).
const MAX: usize = 255;
/// What every SPIFFE ID holds.
const IN_EVERY_ID: [char; 2] = ['/', ':'];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Workload,
    TrustDomain,
    Target,
    Role,
    User,
}

impl Name {
    const ALL: [(&'static str, Self); 5] = [
        ("workload", Self::Workload),
        ("trust_domain", Self::TrustDomain),
        ("target", Self::Target),
        ("role", Self::Role),
        ("user", Self::User),
    ];
    fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, name)| *name == self).map_or("", |(text, _)| text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Name),
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject(Vec<Part>);

/// What it is filled with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) workload: &'a str,
    pub(super) trust_domain: &'a str,
    pub(super) target: &'a str,
    pub(super) role: &'a str,
    pub(super) user: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubjectError {
    #[error(
        "`subject` has the placeholder `{{{0}}}`; there are {{workload}}, {{trust_domain}}, {{target}}, {{role}}, {{user}}"
    )]
    Unknown(String),
    #[error("`subject` has a brace that belongs to no placeholder")]
    Brace,
    #[error("`subject` has two placeholders that touch or are parted by what the first may hold: put `|` between them")]
    Touching,
    #[error("`subject` holds `{0}`, which patterns of trust policies give a meaning")]
    Character(char),
    #[error("the subject cannot be made: this task has no {0}")]
    Missing(&'static str),
    #[error("the subject cannot be made: the {what} holds `{character}`, which must not stand there")]
    Value { what: &'static str, character: char },
    #[error("the subject has {0} bytes; `sub` has 1 to 255")]
    Length(usize),
}

impl Subject {
    pub(super) fn parse(text: &str) -> Result<Self, SubjectError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let open = rest.find(['{', '}']).unwrap_or(rest.len());
            if open > 0 {
                parts.push(Part::Text(rest[..open].into()));
            }
            rest = &rest[open..];
            if rest.is_empty() {
                break;
            }
            let close = rest.find('}').filter(|_| rest.starts_with('{')).ok_or(SubjectError::Brace)?;
            let name = &rest[1..close];
            let found = Name::ALL.into_iter().find(|(known, _)| *known == name);
            let (_, name) = found.ok_or_else(|| SubjectError::Unknown(excerpt(name)))?;
            parts.push(Part::Value(name));
            rest = &rest[close + 1..];
        }
        let subject = Self(parts);
        subject.check()?;
        Ok(subject)
    }

    fn check(&self) -> Result<(), SubjectError> {
        let texts = self.0.iter().filter_map(|p| if let Part::Text(text) = p { Some(text) } else { None });
        if let Some(c) = texts.flat_map(|t| t.chars()).find(|c| !is_plain(*c)) {
            return Err(SubjectError::Character(c));
        }
        for (at, part) in self.0.iter().enumerate() {
            let Part::Value(name) = part else { continue };
            let touching = matches!(self.0.get(at + 1), Some(Part::Value(_)));
            let within = |end| *name == Name::Workload && IN_EVERY_ID.contains(&end);
            if touching || self.end_of(at).is_some_and(within) {
                return Err(SubjectError::Touching);
            }
        }
        if self.0.is_empty() { Err(SubjectError::Length(0)) } else { Ok(()) }
    }

    /// The character that ends the value at `at`, when another value follows.
    fn end_of(&self, at: usize) -> Option<char> {
        match (self.0.get(at + 1), self.0.get(at + 2)) {
            (Some(Part::Text(text)), Some(Part::Value(_))) => text.chars().next(),
            _ => None,
        }
    }

    pub(super) fn fill(&self, values: Values<'_>) -> Result<String, SubjectError> {
        let mut out = String::new();
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(name) => {
                    let value = match name {
                        Name::Workload => Some(values.workload),
                        Name::TrustDomain => Some(values.trust_domain),
                        Name::Target => Some(values.target),
                        Name::Role => Some(values.role),
                        Name::User => values.user,
                    };
                    let what = name.as_str();
                    let value = value.filter(|v| !v.is_empty()).ok_or(SubjectError::Missing(what))?;
                    let end = self.end_of(at);
                    if let Some(character) = value.chars().find(|c| !is_plain(*c) || Some(*c) == end) {
                        return Err(SubjectError::Value { what, character });
                    }
                    out.push_str(value);
                }
            }
        }
        if (1..=MAX).contains(&out.len()) { Ok(out) } else { Err(SubjectError::Length(out.len())) }
    }

    /// The claim as a pattern of a trust policy, with `*` for what is not known yet.
    pub(super) fn pattern(&self, target: &str, role: &str) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(Name::Target) => target.into(),
            Part::Value(Name::Role) => role.into(),
            Part::Value(Name::Workload) => "spiffe://*".into(),
            Part::Value(Name::TrustDomain | Name::User) => "*".into(),
        };
        self.0.iter().map(part).collect()
    }
}

/// Visible ASCII without what patterns, templates and lists give a meaning.
fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() && !"*?$\"\\,<>".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(user: Option<&str>) -> Values<'_> {
        Values {
            workload: "spiffe://example.org/agents/planner",
            trust_domain: "example.org",
            target: "lake",
            role: "deploy",
            user,
        }
    }

    /// J24.
    #[test]
    fn a_template_that_could_mean_two_things_or_nothing_is_refused() {
        for bad in [
            "",
            "{",
            "}",
            "{}",
            "{workload",
            "workload}",
            "{{workload}}",
            "{env}",
            "{workload}{role}",
            "{workload}/{role}",
            "{workload}:{role}",
            "{workload}*",
            "a b",
            "a,b",
            "${workload}",
        ] {
            assert!(Subject::parse(bad).is_err(), "{bad}");
        }
        for (good, filled) in [
            ("{workload}", "spiffe://example.org/agents/planner"),
            ("errand:{target}:{role}", "errand:lake:deploy"),
            ("{workload}|{role}", "spiffe://example.org/agents/planner|deploy"),
            ("{trust_domain}/agents", "example.org/agents"),
            ("fixed", "fixed"),
        ] {
            assert_eq!(Subject::parse(good).unwrap().fill(values(None)).as_deref(), Ok(filled));
        }
    }

    #[test]
    fn a_value_that_is_missing_or_holds_a_delimiter_denies() {
        let subject = Subject::parse("{user}|{target}").unwrap();
        assert_eq!(subject.fill(values(None)), Err(SubjectError::Missing("user")));
        for bad in ["", "kim|lake", "*", "a,b", "a b", "a\nb", "kïm", "a\0"] {
            assert!(subject.fill(values(Some(bad))).is_err(), "{bad}");
        }
        assert_eq!(subject.fill(values(Some("kim@example.org"))).as_deref(), Ok("kim@example.org|lake"));
        let long = format!("spiffe://example.org/{}", "x".repeat(235));
        let fill = |workload: &str| Subject::parse("{workload}").unwrap().fill(Values { workload, ..values(None) });
        assert_eq!(fill(&long), Err(SubjectError::Length(256)));
        assert!(fill(&long[..255]).is_ok());
    }
}
