//! What processors an image is for.

/// A guest's architecture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit PC.
    #[default]
    X86_64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// The host's, when it is one that guests can have.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// From its name in the words of clouds and distributions; the common one for any other.
    pub fn of_name(name: Option<&str>) -> Self {
        if name == Some("arm64") { Self::Arm64 } else { Self::default() }
    }

    /// Its name in the words of clouds and distributions.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}
