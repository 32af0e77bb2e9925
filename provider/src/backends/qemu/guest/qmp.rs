//! A client of QEMU's control socket (QMP: one JSON object per line).
//!
//! Every answer has a deadline and a bounded size: a guest that took over its QEMU may send anything.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::argv;

/// The longest line that is read.
const LONGEST: u64 = 1024 * 1024;

/// Why QEMU did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket.
    #[error("could not talk to QEMU")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("QEMU did not answer to {command} within {limit:?}")]
    Timeout {
        /// What was asked.
        command: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// What came is no QMP.
    #[error("QEMU's answer to {command} makes no sense")]
    Malformed {
        /// What was asked.
        command: &'static str,
    },
    /// QEMU said no.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// What was asked.
        command: &'static str,
        /// Its words.
        reason: String,
    },
}

/// A connection to one guest's QEMU. QEMU serves one at a time, so keep it short.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    limit: Duration,
}

/// What QEMU does when the system resets the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReset {
    /// It ends.
    End,
    /// The machine starts anew.
    Reset,
}

/// One line of QMP.
#[derive(Debug, PartialEq)]
enum Message {
    Greeting,
    Return(Value),
    Refusal(String),
    Event(String),
}

/// The state of a machine that QEMU stopped because a disk's file could not grow: its default for a full host disk.
pub const IO_ERROR: &str = "io-error";

impl Qmp {
    /// Connects to the guest whose folder this is. Each answer may take `limit`.
    ///
    /// # Errors
    /// When nobody listens, or it is no QMP.
    pub async fn connect(dir: &Path, limit: Duration) -> Result<Self, QmpError> {
        let connected = tokio::time::timeout(limit, connect_in(dir)).await;
        let stream = connected.map_err(|_| QmpError::Timeout { command: "connect", limit })??;
        let (reader, writer) = stream.into_split();
        let mut qmp = Self { reader: BufReader::new(reader), writer, limit };
        match qmp.within("greeting", Self::read).await? {
            Message::Greeting => {}
            _ => return Err(QmpError::Malformed { command: "greeting" }),
        }
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// The guest's id, as it was given to QEMU.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub async fn uuid(&mut self) -> Result<uuid::Uuid, QmpError> {
        let answer = self.execute("query-uuid").await?;
        let text = answer.get("UUID").and_then(Value::as_str);
        text.and_then(|text| text.parse().ok()).ok_or(QmpError::Malformed { command: "query-uuid" })
    }

    /// The state of the machine: `running`, `paused`, `shutdown`, [`IO_ERROR`], …
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub async fn status(&mut self) -> Result<String, QmpError> {
        let answer = self.execute("query-status").await?;
        let status = answer.get("status").and_then(Value::as_str).map(str::to_owned);
        status.ok_or(QmpError::Malformed { command: "query-status" })
    }

    /// Lets a stopped machine go on.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub async fn go_on(&mut self) -> Result<(), QmpError> {
        self.execute("cont").await.map(drop)
    }

    /// Presses the power button: the guest's system decides what follows.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub async fn power_button(&mut self) -> Result<(), QmpError> {
        self.execute("system_powerdown").await.map(drop)
    }

    /// Ends QEMU, as when the plug is pulled.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub async fn quit(&mut self) -> Result<(), QmpError> {
        self.execute("quit").await.map(drop)
    }

    /// Chooses what follows when the system resets the machine (`set-action`, since QEMU 6.0).
    ///
    /// # Errors
    /// When QEMU does not answer, or does not know how.
    pub async fn at_reset(&mut self, action: OnReset) -> Result<(), QmpError> {
        let reboot = match action {
            OnReset::End => "shutdown",
            OnReset::Reset => "reset",
        };
        self.execute_with("set-action", json!({ "reboot": reboot })).await.map(drop)
    }

    async fn execute(&mut self, command: &'static str) -> Result<Value, QmpError> {
        self.execute_with(command, json!({})).await
    }

    async fn execute_with(&mut self, command: &'static str, arguments: Value) -> Result<Value, QmpError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.within(command, async |qmp: &mut Self| {
            qmp.writer.write_all(line.as_bytes()).await?;
            loop {
                match qmp.read().await? {
                    Message::Return(value) => return Ok(value),
                    Message::Refusal(reason) => return Err(QmpError::Refused { command, reason }),
                    Message::Greeting | Message::Event(_) => {}
                }
            }
        })
        .await
    }

    async fn within<T>(
        &mut self,
        command: &'static str,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, QmpError>,
    ) -> Result<T, QmpError> {
        let limit = self.limit;
        match tokio::time::timeout(limit, work(self)).await {
            Ok(Err(QmpError::Malformed { .. })) => Err(QmpError::Malformed { command }),
            Ok(result) => result,
            Err(_) => Err(QmpError::Timeout { command, limit }),
        }
    }

    async fn read(&mut self) -> Result<Message, QmpError> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LONGEST).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        parse(&line).ok_or(QmpError::Malformed { command: "" })
    }
}

/// Connects by a short path through the open folder, since a socket's path has 108 bytes at most.
async fn connect_in(dir: &Path) -> io::Result<UnixStream> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    if !cfg!(target_os = "linux") {
        return UnixStream::connect(dir.join(argv::QMP)).await;
    }
    let folder = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), argv::QMP)).await
}

fn parse(line: &[u8]) -> Option<Message> {
    let Value::Object(mut object) = serde_json::from_slice(line).ok()? else { return None };
    if object.contains_key("QMP") {
        Some(Message::Greeting)
    } else if let Some(event) = object.get("event") {
        Some(Message::Event(event.as_str()?.to_owned()))
    } else if let Some(value) = object.remove("return") {
        Some(Message::Return(value))
    } else {
        let reason = object.get("error")?.get("desc")?.as_str()?;
        Some(Message::Refusal(reason.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn reads_lines() {
        for (line, expected) in [
            (r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#, Some(Message::Greeting)),
            (r#"{"return": {"status": "running"}}"#, Some(Message::Return(json!({"status": "running"})))),
            (r#"{"error": {"class": "GenericError", "desc": "no"}}"#, Some(Message::Refusal("no".into()))),
            (r#"{"timestamp": {}, "event": "SHUTDOWN"}"#, Some(Message::Event("SHUTDOWN".into()))),
            (r#"{"error": 1}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn hostile_lines_never_panic(line: Vec<u8>) {
            let _ = parse(&line);
        }
    }

    /// A QEMU that sends `lines`, then keeps the connection.
    async fn served(lines: Vec<u8>) -> (tempfile::TempDir, Result<String, QmpError>) {
        let dir = tempfile::tempdir().unwrap();
        // Longer than a socket's path may be.
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let short = dir.path().join("s");
        let listener = UnixListener::bind(&short).unwrap();
        std::fs::rename(&short, deep.join(argv::QMP)).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(&lines).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let limit = Duration::from_millis(300);
        let result = match Qmp::connect(&deep, limit).await {
            Ok(mut qmp) => qmp.status().await,
            Err(error) => Err(error),
        };
        server.await.unwrap();
        (dir, result)
    }

    #[tokio::test]
    async fn events_in_between_and_silence_and_noise() {
        let fine =
            b"{\"QMP\":{}}\n{\"return\":{}}\n{\"event\":\"RESET\"}\n{\"return\":{\"status\":\"paused\"}}\n";
        assert_eq!(served(fine.to_vec()).await.1.unwrap(), "paused");
        for (lines, message) in [
            (b"".to_vec(), "QEMU did not answer to greeting within 300ms"),
            (b"{\"QMP\":{}}\n".to_vec(), "QEMU did not answer to qmp_capabilities within 300ms"),
            (b"SSH-2.0\n".to_vec(), "QEMU's answer to greeting makes no sense"),
            (vec![b'{'; 3 * 1024 * 1024], "QEMU's answer to greeting makes no sense"),
            (
                b"{\"QMP\":{}}\n{\"error\":{\"desc\":\"busy\"}}\n".to_vec(),
                "QEMU refused qmp_capabilities: busy",
            ),
        ] {
            assert_eq!(served(lines).await.1.unwrap_err().to_string(), message);
        }
    }
}
