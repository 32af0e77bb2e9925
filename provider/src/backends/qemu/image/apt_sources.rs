//! The host's APT sources: which mirrors it uses for a distribution. Reads both formats, changes nothing.

use std::path::{Path, PathBuf};

use super::distribution::Distribution;

/// One entry: addresses that hold suites, with their components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Addresses of the same content.
    pub(super) uris: Vec<String>,
    /// `bookworm`, `bookworm-security`.
    pub(super) suites: Vec<String>,
    /// `main`, `contrib`.
    pub(super) components: Vec<String>,
    /// A keyring file; none also when the key stands in the entry itself.
    pub(super) signed_by: Option<PathBuf>,
}

/// A line for the sources of a new system.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Line {
    /// The address, without a slash at its end.
    pub(super) uri: String,
    /// The suite.
    pub(super) suite: String,
    /// The components, separated by blanks.
    pub(super) components: String,
}

/// Everything in `/etc/apt/sources.list` and `sources.list.d` under `etc_apt`.
pub(super) fn read(etc_apt: &Path) -> Vec<Source> {
    let mut files = vec![etc_apt.join("sources.list")];
    let parts = std::fs::read_dir(etc_apt.join("sources.list.d"));
    let mut parts: Vec<PathBuf> = parts.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    parts.sort();
    files.extend(parts);
    let texts = files.iter().filter_map(|file| Some((file, std::fs::read_to_string(file).ok()?)));
    texts.flat_map(|(file, text)| parse(file, &text)).collect()
}

/// What a file of this name says; nothing where APT does not read it.
pub(super) fn parse(file: &Path, text: &str) -> Vec<Source> {
    match file.extension().and_then(|end| end.to_str()) {
        Some("list") => one_line(text),
        Some("sources") => deb822(text),
        _ => Vec::new(),
    }
}

/// The mirrors that the sources name for `distribution`, applied to `suite`: the archive itself, its updates and
/// its security archive, as far as the host has them. Also the keyrings that the entries name.
pub(super) fn lines_for(
    sources: &[Source],
    distribution: Distribution,
    suite: &str,
) -> (Vec<Line>, Vec<PathBuf>) {
    let mut lines: Vec<Line> = Vec::new();
    let mut keyrings = Vec::new();
    for source in sources {
        let mut uris = source.uris.iter().flat_map(|uri| addresses(uri, read_list));
        let Some(uri) = uris.find(|uri| usable(uri)) else {
            continue;
        };
        for host_suite in &source.suites {
            if Distribution::of_source(host_suite) != Some(distribution) {
                continue;
            }
            let kind = host_suite.find(['-', '/']).map_or("", |at| &host_suite[at..]);
            let kind = if kind == "/updates" { "-security" } else { kind };
            if !matches!(kind, "" | "-updates" | "-security")
                || !kind.is_empty() && !Distribution::has_updates(suite)
            {
                continue;
            }
            let line = Line {
                uri: uri.trim_end_matches('/').to_owned(),
                suite: format!("{suite}{kind}"),
                components: distribution.components().to_owned(),
            };
            if !lines.iter().any(|other| other.suite == line.suite) {
                lines.push(line);
            }
            if let Some(file) = &source.signed_by
                && !keyrings.contains(file)
            {
                keyrings.push(file.clone());
            }
        }
    }
    // The archive itself comes first: it is what the suite's name is checked against.
    lines.sort_by_key(|line| line.suite.len());
    if lines.first().is_some_and(|line| line.suite != suite) {
        lines.clear();
    }
    (lines, keyrings)
}

/// What a source's address stands for: itself, or the mirrors in the file that it names (apt-transport-mirror(1);
/// Debian's cloud images have it so).
pub(super) fn addresses(uri: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let Some(list) = uri.strip_prefix("mirror+file:") else { return vec![uri.to_owned()] };
    let text = read(Path::new(&format!("/{}", list.trim_start_matches('/')))).unwrap_or_default();
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    text.lines().filter(|line| !line.starts_with('#')).filter_map(first).collect()
}

/// A list of mirrors on this computer.
fn read_list(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

/// An address that the image can have, too. One with a password in it would show that in process lists, logs and the
/// image.
pub(super) fn usable(uri: &str) -> bool {
    let host = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://"));
    host.is_some_and(|rest| !rest.split('/').next().unwrap_or_default().contains('@'))
}

/// `deb [options] uri suite components`.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        signed_by: signed_by.and_then(keyring_file),
    })
}

/// Stanzas of `Field: value` with continuation lines.
fn deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(stanza(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn stanza(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let words = |name: &str| field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let enabled = !matches!(field("enabled"), Some("no" | "false" | "0"));
    let binary = field("types").is_some_and(|types| types.split_whitespace().any(|kind| kind == "deb"));
    let source = Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").and_then(keyring_file),
    };
    (enabled && binary && !source.uris.is_empty() && !source.suites.is_empty()).then_some(source)
}

/// `Signed-By` may also hold the key's text or fingerprints.
fn keyring_file(value: &str) -> Option<PathBuf> {
    value.starts_with('/').then(|| PathBuf::from(value.split([' ', ',']).next().unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(uri: &str, suite: &str, components: &str) -> Line {
        Line { uri: uri.into(), suite: suite.into(), components: components.into() }
    }

    #[test]
    fn one_line_entries() {
        let source = |uri: &str, suite: &str, components: &[&str], key: Option<&str>| Source {
            uris: vec![uri.into()],
            suites: vec![suite.into()],
            components: components.iter().map(|it| (*it).to_owned()).collect(),
            signed_by: key.map(PathBuf::from),
        };
        let cases = [
            (
                "deb http://m/debian bookworm main",
                Some(source("http://m/debian", "bookworm", &["main"], None)),
            ),
            (
                "deb\t[ arch=amd64 signed-by=/k.gpg ]  http://m/d  trixie main contrib # x",
                Some(source("http://m/d", "trixie", &["main", "contrib"], Some("/k.gpg"))),
            ),
            ("deb [trusted=yes] http://m/flat ./", Some(source("http://m/flat", "./", &[], None))),
            ("deb-src http://m/debian bookworm main", None),
            ("# deb http://m/debian bookworm main", None),
            ("debhttp://m/debian bookworm main", None),
            ("deb [arch=amd64 http://m/debian", None),
            ("deb http://m/debian", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(one_line_entry(text), expected, "{text}");
        }
    }

    #[test]
    fn stanzas() {
        let text = "# a comment\nTypes: deb deb-src\n# another\nURIs: http://m/debian\n  http://n/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
                    Types: deb-src\nURIs: http://m/\nSuites: x\n\n\
                    Types: deb\nURIs: http://m/\nSuites: x\nEnabled: no\n\n\
                    types: deb\nuris: http://m/s\nsuites: noble\nSigned-By:\n -----BEGIN PGP\n .\n";
        let sources = deb822(text);
        assert_eq!(sources.len(), 2, "{sources:?}");
        assert_eq!(sources[0].uris, ["http://m/debian", "http://n/debian"]);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(sources[0].signed_by, Some("/k.gpg".into()));
        assert_eq!((sources[1].suites[0].as_str(), &sources[1].signed_by), ("noble", &None));
    }

    #[test]
    fn addresses_that_the_image_can_have_too() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("debian.list");
        std::fs::write(&list, "# nearest first\nhttps://m/debian priority:1\nhttp://n/debian\n").unwrap();
        for (uri, expected) in [
            ("http://m/debian".to_owned(), Some("http://m/debian")),
            (format!("mirror+file://{}", list.display()), Some("https://m/debian")),
            (format!("mirror+file:{}", list.display()), Some("https://m/debian")),
            ("mirror+file:///none".to_owned(), None),
            ("file:///srv/debian".to_owned(), None),
            ("cdrom:[Debian]/".to_owned(), None),
            ("https://me:secret@m/debian".to_owned(), None),
            ("https://m/de@bian".to_owned(), Some("https://m/de@bian")),
        ] {
            let found = addresses(&uri, read_list).into_iter().find(|uri| usable(uri));
            assert_eq!(found.as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn the_hosts_mirrors_serve_another_suite() {
        let text = "deb cdrom:[Debian]/ bookworm main\n\
                    deb http://m/security/ bookworm-security main\n\
                    deb http://m/debian/ bookworm main contrib\n\
                    deb http://m/debian bookworm-updates main\n\
                    deb http://m/debian bookworm-backports main\n\
                    deb http://other/debian bookworm main\n\
                    deb http://cloud/apt cloud-sdk-bookworm main\n\
                    deb http://u/ubuntu noble main\n";
        let sources = one_line(text);
        let debian = |suite| lines_for(&sources, Distribution::Debian, suite).0;
        assert_eq!(
            debian("trixie"),
            [
                line("http://m/debian", "trixie", "main"),
                line("http://m/debian", "trixie-updates", "main"),
                line("http://m/security", "trixie-security", "main"),
            ]
        );
        assert_eq!(debian("sid"), [line("http://m/debian", "sid", "main")]);
        let ubuntu = lines_for(&sources, Distribution::Ubuntu, "resolute").0;
        assert_eq!(ubuntu, [line("http://u/ubuntu", "resolute", "main universe")]);
        // A security archive alone is no mirror.
        let alone = one_line("deb http://m/security bookworm-security main\n");
        assert_eq!(lines_for(&alone, Distribution::Debian, "bookworm").0, []);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text: String) {
            let _ = (one_line(&text), deb822(&text));
        }
    }
}
