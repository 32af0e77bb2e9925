//! What a backend needs, and whether it is there.

/// One thing that a backend needs or profits from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prerequisite {
    /// What it is called.
    pub name: String,
    /// Its version, where it has one.
    pub version: Option<String>,
    /// Whether it can be used.
    pub state: State,
    /// What was found, or what to do.
    pub hint: String,
    /// Whether nothing works without it; the rest makes things faster or serves some uses only.
    pub required: bool,
}

/// Whether a prerequisite can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can.
    Ok,
    /// It is not there.
    Missing,
    /// It is there and does not work or does not suffice.
    Unusable,
}

impl State {
    /// As data sources and people see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Unusable => "unusable",
        }
    }
}

/// Whether all that is required is there.
pub fn satisfied(found: &[Prerequisite]) -> bool {
    found.iter().all(|prerequisite| !prerequisite.required || prerequisite.state == State::Ok)
}
