//! A base image from the network: resumed where it was interrupted, kept only when its checksum is right.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use reqwest::header;
use reqwest::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::area::{Lock, lock_file};
use super::{BuildError, convert};
use crate::domain::backend::causes;
use crate::process::BuildLog;
use crate::process::private;

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// How often an interrupted download is taken up again.
const TRIES: u32 = 5;

/// A download's place in the cache.
struct Place {
    done: PathBuf,
    partial: PathBuf,
    /// What the server said identifies the version of which `partial` is the beginning.
    version: PathBuf,
}

/// The file behind `url` with this checksum, from the cache if it is there.
///
/// # Errors
/// When it cannot be fetched, or is another one: then nothing of it is kept.
pub(super) async fn fetch(
    cache_dir: &Path,
    url: &str,
    sha256: &str,
    log: &BuildLog,
    cancel: &CancellationToken,
) -> Result<PathBuf, BuildError> {
    let folder = cache_dir.join("downloads");
    private::create_dir(&folder).map_err(BuildError::io("create", &folder))?;
    let place = Place {
        done: folder.join(sha256),
        partial: folder.join(format!("{sha256}.partial")),
        version: folder.join(format!("{sha256}.version")),
    };
    let _lock = lock_file(&folder.join(format!("{sha256}.lock")), Lock::Exclusive, cancel).await?;
    if place.done.exists() {
        return Ok(place.done);
    }
    log.step("Downloading the base image");
    let mut tries = 0;
    while let Err(error) = transfer(url, &place, log, cancel).await {
        tries += 1;
        if tries == TRIES || !matches!(error, BuildError::Download { again: true, .. }) {
            return Err(error);
        }
        log.line(&format!("{error}; going on where it stopped"));
        tokio::time::sleep(Duration::from_secs(1 << tries)).await;
    }
    let found = convert::sha256(&place.partial, cancel).await?;
    let _ = fs::remove_file(&place.version);
    if found != sha256 {
        fs::remove_file(&place.partial).map_err(BuildError::io("remove", &place.partial))?;
        return Err(BuildError::Checksum { what: shown(url), expected: sha256.to_owned(), found });
    }
    fs::rename(&place.partial, &place.done).map_err(BuildError::io("move", &place.partial))?;
    Ok(place.done)
}

async fn transfer(
    url: &str,
    place: &Place,
    log: &BuildLog,
    cancel: &CancellationToken,
) -> Result<(), BuildError> {
    let failed = |again: bool| {
        move |error: reqwest::Error| BuildError::Download {
            url: shown(url),
            reason: causes(&error.without_url()),
            again,
        }
    };
    let client =
        reqwest::Client::builder().read_timeout(SILENCE).connect_timeout(Duration::from_secs(20)).build();
    let mut request = client.map_err(failed(false))?.get(url).header(header::ACCEPT_ENCODING, "identity");
    let have = fs::metadata(&place.partial).map_or(0, |partial| partial.len());
    let version = fs::read_to_string(&place.version).ok().filter(|_| have > 0);
    if let Some(version) = &version {
        request = request.header(header::RANGE, format!("bytes={have}-")).header(header::IF_RANGE, version);
    }
    let response = tokio::select! {
        () = cancel.cancelled() => return Err(BuildError::Cancelled),
        response = request.send() => response.map_err(failed(true))?,
    };
    let resumed = version.is_some() && response.status() == StatusCode::PARTIAL_CONTENT;
    if !resumed && response.status() != StatusCode::OK {
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            let _ = fs::remove_file(&place.version);
        }
        let again =
            response.status().is_server_error() || response.status() == StatusCode::RANGE_NOT_SATISFIABLE;
        let reason = format!("the server answered {}", response.status());
        return Err(BuildError::Download { url: shown(url), reason, again });
    }
    remember_version(&response, place)?;
    let mut file = open(&place.partial, if resumed { have } else { 0 })?;
    if resumed {
        log.line(&format!("Going on after {} MiB", have >> 20));
    }
    let expected = response.content_length();
    let mut body = response.bytes_stream();
    let mut got = 0;
    loop {
        let chunk = tokio::select! {
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
            chunk = body.next() => chunk,
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(failed(true))?;
        file.write_all(&chunk).map_err(BuildError::io("write", &place.partial))?;
        got += chunk.len() as u64;
    }
    match expected {
        Some(expected) if expected != got => {
            let reason = format!("the connection ended after {got} of {expected} bytes");
            Err(BuildError::Download { url: shown(url), reason, again: true })
        }
        _ => Ok(()),
    }
}

/// Only a strong entity tag or a date makes it safe to go on later.
fn remember_version(response: &Response, place: &Place) -> Result<(), BuildError> {
    let field = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let tag = field(header::ETAG).filter(|tag| !tag.starts_with("W/"));
    match tag.or_else(|| field(header::LAST_MODIFIED)) {
        Some(version) => fs::write(&place.version, version).map_err(BuildError::io("write", &place.version)),
        None => {
            let _ = fs::remove_file(&place.version);
            Ok(())
        }
    }
}

fn open(path: &Path, at: u64) -> Result<File, BuildError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let mut file = file.map_err(BuildError::io("open", path))?;
    file.set_len(at).map_err(BuildError::io("shorten", path))?;
    file.seek(SeekFrom::Start(at)).map_err(BuildError::io("open", path))?;
    Ok(file)
}

/// A URL without what may be secret in it: user, password, query.
fn shown(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut url) => {
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.to_string()
        }
        Err(_) => "the URL".to_owned(),
    }
}
