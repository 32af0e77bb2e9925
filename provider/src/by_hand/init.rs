//! `init CLOUD`: a configuration to start from.

use std::ffi::OsString;

use crate::backends::CLOUDS;

/// The configuration that the arguments ask for.
pub(super) fn configuration(args: &[OsString]) -> Result<&'static str, String> {
    let all: Vec<_> = CLOUDS.iter().filter_map(|cloud| Some((cloud.name, cloud.init?))).collect();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let known = format!("There is: {}", names.join(", "));
    let [cloud] = args else { return Err(format!("init needs the name of one cloud. {known}")) };
    let found = all.iter().find(|(name, _)| *cloud == **name);
    found.map(|(_, text)| *text).ok_or_else(|| format!("{cloud:?} is no cloud for init. {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cloud_that_is_known() {
        let asked = |args: &[&str]| configuration(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(asked(&["aws"]).unwrap().contains("resource \"sindri_image\""));
        for wrong in [&[][..], &["azure"], &["aws", "more"], &["--help"]] {
            assert!(asked(wrong).unwrap_err().ends_with("There is: aws"), "{wrong:?}");
        }
    }
}
