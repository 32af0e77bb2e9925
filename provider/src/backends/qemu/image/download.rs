//! A base image from the network: resumed where it was interrupted, kept only when its checksum is right.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use reqwest::header;
use reqwest::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::area::{lock_file, try_lock_file};
use super::layer::FORGET;
use super::{BuildError, convert};
use crate::domain::causes;
use crate::process::BuildLog;
use crate::process::lock::How;
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
    let _lock = lock_file(&folder.join(format!("{sha256}.lock")), How::Exclusive, cancel).await?;
    if let Ok(done) = File::open(&place.done) {
        let _ = done.set_modified(SystemTime::now());
        return Ok(place.done);
    }
    log.step("Downloading the base image");
    let mut tries = 0;
    while let Err(error) = transfer(url, &place, log, cancel).await {
        if let BuildError::NoSpace { .. } = error {
            // Whoever makes room for it wants room.
            let _ = fs::remove_file(&place.partial).and(fs::remove_file(&place.version));
        }
        tries += 1;
        if tries == TRIES || !matches!(error, BuildError::Download { again: true, .. }) {
            return Err(error);
        }
        log.line(&format!("{error}; going on where it stopped"));
        tokio::select! {
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
            () = tokio::time::sleep(Duration::from_secs(1 << tries)) => {}
        }
    }
    let found = convert::sha256(&place.partial, cancel).await?;
    let _ = fs::remove_file(&place.version);
    if found != sha256 {
        fs::remove_file(&place.partial).map_err(BuildError::io("remove", &place.partial))?;
        return Err(BuildError::Checksum { what: shown(url), expected: sha256.to_owned(), found });
    }
    // A file with its proper name is whole, after a power cut too.
    let partial = place.partial.clone();
    let synced = tokio::task::spawn_blocking(move || File::open(&partial)?.sync_all()).await;
    let synced = synced.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    synced.map_err(BuildError::io("write out", &place.partial))?;
    fs::rename(&place.partial, &place.done).map_err(BuildError::io("move", &place.partial))?;
    Ok(place.done)
}

/// Removes what turned out to be another than its name says.
///
/// # Errors
/// When it stays.
pub(super) fn forget(file: &Path) -> Result<(), BuildError> {
    private::remove_file(file).map_err(BuildError::io("remove", file))
}

/// Removes what nobody has asked for in a long time, halves included.
pub(super) fn forget_old(cache_dir: &Path) {
    let folder = cache_dir.join("downloads");
    let is_old = |path: &Path| {
        let used = fs::metadata(path).and_then(|meta| meta.modified());
        used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > FORGET))
    };
    let names = fs::read_dir(&folder).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let sum = name.split('.').next().unwrap_or_default();
        if name.ends_with(".lock") || !is_old(&folder.join(&name)) {
            continue;
        }
        // Somebody may take it up in this moment.
        if let Ok(Some(_lock)) = try_lock_file(&folder.join(format!("{sum}.lock")), How::Exclusive)
            && is_old(&folder.join(&name))
        {
            let _ = fs::remove_file(folder.join(&name));
        }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::process::Redactor;

    #[tokio::test]
    async fn what_nobody_asks_for_goes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("downloads");
        fs::create_dir(&folder).unwrap();
        let old = SystemTime::now() - FORGET - Duration::from_secs(60);
        for (name, age) in [
            ("a", old),
            ("b.partial", old),
            ("b.version", old),
            ("c", old),
            ("d", SystemTime::now()),
            ("e", old),
        ] {
            let file = File::create(folder.join(name)).unwrap();
            file.set_modified(age).unwrap();
        }
        let log = BuildLog::create(&dir.path().join("logs"), "x", "1", Redactor::default()).unwrap();
        fetch(dir.path(), "http://nowhere.invalid/c", "c", &log, &CancellationToken::new()).await.unwrap();
        let _busy = try_lock_file(&folder.join("e.lock"), How::Exclusive).unwrap().unwrap();
        forget_old(dir.path());
        let left =
            fs::read_dir(&folder).unwrap().flatten().filter_map(|it| it.file_name().into_string().ok());
        let mut left: Vec<_> = left.filter(|name| !name.ends_with(".lock")).collect();
        left.sort();
        assert_eq!(left, ["c", "d", "e"]);
    }

    #[tokio::test]
    async fn a_pause_between_tries_ends_with_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let log = BuildLog::create(&dir.path().join("logs"), "x", "1", Redactor::default()).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let cancel = CancellationToken::new();
        let start = Instant::now();
        let (url, sum) = (format!("http://{nobody}/x"), "0".repeat(64));
        let fetched = fetch(dir.path(), &url, &sum, &log, &cancel);
        let stop = async {
            while !log.tail(1).contains("going on") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        tokio::pin!(fetched);
        let fetched = tokio::select! {
            early = &mut fetched => early,
            () = stop => fetched.await,
        };
        assert!(matches!(fetched, Err(BuildError::Cancelled)), "{fetched:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
