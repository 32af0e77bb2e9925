//! Whether this user can have namespaces with more than one user in them, which builds without a boot need.

/// What of a build was tried and refused, with what that ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// To make namespaces, and to mount in them.
    Namespaces(String),
    /// To lay a tree together in them, and to make it the root.
    Tree(String),
}

/// What is in the way, each with what to do about it. `refused` tells whether anything is, and the rest why.
pub(super) fn obstacles(refused: Option<Refusal>) -> Vec<String> {
    let refused = match refused {
        None => return Vec::new(),
        Some(Refusal::Tree(refused)) => return vec![refused],
        Some(Refusal::Namespaces(refused)) => refused,
    };
    if rustix::process::geteuid().is_root() {
        return vec![refused];
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let uid = rustix::process::getuid().as_raw();
    let name = user_name(&read("/etc/passwd"), uid);
    let facts = Facts {
        way_in: super::program::find("mmdebstrap").is_some(),
        helpers: super::program::find("newuidmap").is_some() && super::program::find("newgidmap").is_some(),
        ranges: ["/etc/subuid", "/etc/subgid"]
            .iter()
            .all(|file| has_range(&read(file), name.as_deref(), uid)),
        most: read("/proc/sys/user/max_user_namespaces").trim().parse().ok(),
        unprivileged: read("/proc/sys/kernel/unprivileged_userns_clone").trim() != "0",
        confined: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").trim() == "1",
    };
    explain(&facts, refused)
}

struct Facts {
    way_in: bool,
    helpers: bool,
    ranges: bool,
    most: Option<u64>,
    unprivileged: bool,
    confined: bool,
}

fn explain(facts: &Facts, refused: String) -> Vec<String> {
    let mut found = Vec::new();
    if !facts.way_in {
        found.push("mmdebstrap, by which an ordinary user gets in, is missing");
    }
    if !facts.helpers {
        found.push("newuidmap and newgidmap are missing: install uidmap");
    }
    if !facts.ranges {
        found.push("this user has no range in /etc/subuid and /etc/subgid: run usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER as root");
    }
    if facts.most == Some(0) || !facts.unprivileged {
        found.push("user namespaces are switched off: set the sysctls user.max_user_namespaces and kernel.unprivileged_userns_clone, or build as root");
    }
    if found.is_empty() && facts.confined {
        found.push("AppArmor forbids user namespaces to programs that no profile allows them: install a profile of mmdebstrap with `userns,` in it, set the sysctl kernel.apparmor_restrict_unprivileged_userns to 0, or build as root");
    }
    let known = found.into_iter().map(str::to_owned);
    known.chain([refused]).collect()
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    })
}

/// Whether a file like `/etc/subuid` gives the user at least 65,536 ids in one range.
fn has_range(text: &str, name: Option<&str>, uid: u32) -> bool {
    text.lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [who, _, count] = fields[..] else { return false };
        let ours = Some(who) == name || who.parse() == Ok(uid);
        ours && count.trim().parse::<u64>().is_ok_and(|count| count >= 65_536)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_by_name_and_by_number() {
        for (text, found) in [
            ("ann:100000:65536\n", true),
            ("1000:100000:65536", true),
            ("bob:100000:65536\nann:165536:65536", true),
            ("ann:100000:1000", false),
            ("bob:100000:65536", false),
            ("ann:100000", false),
            ("", false),
        ] {
            assert_eq!(has_range(text, Some("ann"), 1000), found, "{text}");
        }
        assert_eq!(
            user_name("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh", 1000).as_deref(),
            Some("ann")
        );
        assert_eq!(user_name("broken\n", 0), None);
    }

    #[test]
    fn names_each_obstacle() {
        let fine = || Facts {
            way_in: true,
            helpers: true,
            ranges: true,
            most: Some(1000),
            unprivileged: true,
            confined: false,
        };
        let said = |facts: &Facts| explain(facts, "EPERM".to_owned());
        assert_eq!(said(&fine()), ["EPERM"]);
        for (facts, word) in [
            (Facts { way_in: false, ..fine() }, "mmdebstrap"),
            (Facts { helpers: false, ..fine() }, "uidmap"),
            (Facts { ranges: false, ..fine() }, "subuid"),
            (Facts { ranges: false, confined: true, ..fine() }, "subuid"),
            (Facts { most: Some(0), ..fine() }, "switched off"),
            (Facts { unprivileged: false, ..fine() }, "switched off"),
            (Facts { confined: true, ..fine() }, "AppArmor"),
        ] {
            let found = said(&facts);
            assert!(found.len() == 2 && found[0].contains(word) && found[1] == "EPERM", "{found:?}");
        }
        assert_eq!(obstacles(None), [""; 0]);
        // In the namespaces already: nothing of these is in the way.
        assert_eq!(obstacles(Some(Refusal::Tree("EPERM".into()))), ["EPERM"]);
    }
}
