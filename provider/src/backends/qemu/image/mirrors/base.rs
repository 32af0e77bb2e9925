//! The mirrors of a base image: those that its own APT sources name, before any step could change them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backends::qemu::image::apt_sources;

/// Prints them, and the lists of mirrors that they name, each file after its name.
pub(in crate::backends::qemu::image) const PRINT: &str =
    include_str!("../../../../../../templates/scripts/print-apt-sources.sh");

/// What a file's name stands after. In APT's own files a comment.
const NAME: &str = "#sindri: ";

/// The addresses in what [`PRINT`] printed.
pub(in crate::backends::qemu::image) fn urls(printed: &str) -> Vec<String> {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let mut name = "";
    for line in printed.lines() {
        match line.strip_prefix(NAME) {
            Some(next) => name = next,
            None => files.entry(name).or_default().extend([line, "\n"]),
        }
    }
    let sources = files.iter().flat_map(|(name, text)| apt_sources::parse(Path::new(name), text));
    let uris = sources.flat_map(|source| source.uris);
    let read = |list: &Path| files.get(list.to_str()?).cloned();
    uris.flat_map(|uri| apt_sources::addresses(&uri, read)).filter(|uri| apt_sources::usable(uri)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_prints() {
        let printed = "\n#sindri: /etc/apt/sources.list\n# deb http://off.example/debian x main\n\
                       deb cdrom:[Debian]/ x main\ndeb http://one.example/debian x main\n\
                       \n#sindri: /etc/apt/sources.list.d/a.sources\nTypes: deb\nURIs: mirror+file:///etc/apt/mirrors/m.list\n\
                       Suites: x\n\nTypes: deb\nURIs: http://off.example/\nSuites: x\nEnabled: no\n\
                       \n#sindri: /etc/apt/sources.list.d/b.list\ndeb https://a:b@login.example/debian x main\n\
                       deb-src http://off.example/debian x main\n\
                       \n#sindri: /etc/apt/mirrors/m.list\n# nearest first\nhttps://two.example/debian priority:1\nhttp://three.example/debian\n";
        assert_eq!(
            urls(printed),
            ["http://one.example/debian", "https://two.example/debian", "http://three.example/debian"]
        );
        assert_eq!(urls(""), [""; 0]);
    }

    /// On this machine, which has APT's files, as in a guest.
    #[test]
    fn the_script_prints_files_after_their_names() {
        let printed = std::process::Command::new("sh").args(["-c", PRINT]).output().unwrap();
        let own = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().count();
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(own == 0 || printed.contains("\n#sindri: /etc/apt/sources.list.d/"), "{printed}");
    }

    proptest::proptest! {
        #[test]
        fn anything_may_be_printed(text: String) {
            let _ = urls(&text);
        }
    }
}
