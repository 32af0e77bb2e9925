//! An EC2 of a scenario's own: moto as a server process on loopback, with the rig's plug-in.
//!
//! One process has imported moto, and forks for each emulator. All end with its standard input, so that none can outlive
//! the tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cli::built_tool;
use crate::{Workspace, repository};

/// The region of a scenario that names none.
const REGION: &str = "us-west-2";

/// What goes wrong with requests for an action.
#[derive(Clone, Copy, Debug)]
pub enum Fault<'a> {
    /// An answer with this status, code and message.
    Error {
        /// For instance 503.
        status: u16,
        /// For instance `RequestLimitExceeded`.
        code: &'a str,
        /// What it says.
        message: &'a str,
    },
    /// The request has its effect, and the connection breaks instead of an answer.
    Drop,
    /// The request has no effect, and the connection is reset.
    Reset,
    /// A listing by a place that has heard of nothing yet.
    Unseen,
    /// The request waits, and is answered then.
    Late {
        /// For how long.
        seconds: u32,
    },
}

impl Fault<'_> {
    /// EC2 is asked too much.
    pub const THROTTLED: Self =
        Fault::Error { status: 503, code: "RequestLimitExceeded", message: "Request limit exceeded." };
}

/// What all emulators of this process are forked from. Never dropped: its input closes when this process ends.
static ORIGIN: Mutex<Option<Origin>> = Mutex::new(None);

struct Origin {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Origin {
    fn start() -> Result<Self> {
        let mut process = Command::new(built_tool("moto")?)
            .args(["-m", "rig"])
            .current_dir(repository().join("acceptance-tests/rig/moto"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting moto")?;
        let orders = process.stdin.take().context("moto without an input")?;
        let answers = BufReader::new(process.stdout.take().context("moto without an output")?);
        Ok(Self { orders, answers })
    }

    fn emulator(&mut self) -> Result<Moto> {
        writeln!(self.orders, "start").context("asking moto for an emulator")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).with_context(|| format!("moto said {line:?}"))?;
        let url = told["url"].as_str().context("moto tells no address")?.to_owned();
        Ok(Moto { number: told["number"].as_u64().context("moto tells no number")?, url })
    }
}

/// The emulator. Dropping it ends its process.
#[derive(Debug)]
pub struct Moto {
    number: u64,
    url: String,
}

impl Moto {
    /// Starts one with empty accounts and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be installed or does not start.
    pub fn start() -> Result<Self> {
        let mut origin = ORIGIN.lock().unwrap_or_else(PoisonError::into_inner);
        match origin.as_mut() {
            Some(origin) => origin.emulator(),
            None => origin.insert(Origin::start()?).emulator(),
        }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets a configuration use it: credentials, region and endpoint by the environment.
    pub fn serve(&self, workspace: &mut Workspace) {
        for (name, value) in self.environment() {
            workspace.env(name, &value);
        }
    }

    /// Credentials, region and endpoint for a program that is to use it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let fixed = [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", REGION),
            ("AWS_ENDPOINT_URL", self.url.as_str()),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ];
        fixed.map(|(name, value)| (name, value.to_owned())).to_vec()
    }

    /// Lets the next so many requests for an action go wrong.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn fault(&self, action: &str, times: u32, fault: Fault<'_>) -> Result<()> {
        self.fault_after(action, 0, times, fault)
    }

    /// Like [`Moto::fault`], with some requests passing first.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn fault_after(&self, action: &str, after: u32, times: u32, fault: Fault<'_>) -> Result<()> {
        self.order(action, after, times, fault, None)
    }

    /// Like [`Moto::fault_after`], for the requests in one region.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn fault_in(
        &self,
        region: &str,
        action: &str,
        after: u32,
        times: u32,
        fault: Fault<'_>,
    ) -> Result<()> {
        self.order(action, after, times, fault, Some(region))
    }

    fn order(
        &self,
        action: &str,
        after: u32,
        times: u32,
        fault: Fault<'_>,
        region: Option<&str>,
    ) -> Result<()> {
        let mut order = match fault {
            Fault::Error { status, code, message } => {
                json!({ "kind": "error", "status": status, "code": code, "message": message })
            }
            Fault::Drop => json!({ "kind": "drop" }),
            Fault::Reset => json!({ "kind": "reset" }),
            Fault::Unseen => json!({ "kind": "unseen" }),
            Fault::Late { seconds } => json!({ "kind": "late", "seconds": seconds }),
        };
        order["action"] = action.into();
        order["after"] = after.into();
        order["times"] = times.into();
        if let Some(region) = region {
            order["region"] = region.into();
        }
        self.control("POST", "faults", &order.to_string()).map(drop)
    }

    /// Nothing goes wrong any more.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn heal(&self) -> Result<()> {
        self.control("DELETE", "faults", "").map(drop)
    }

    /// How often each action was asked for since the last [`Moto::forget_requests`].
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn requests(&self) -> Result<BTreeMap<String, u64>> {
        let told = self.control("GET", "requests", "")?;
        let counts = told.as_object().context("no counts")?.iter();
        Ok(counts.map(|(action, count)| (action.clone(), count.as_u64().unwrap_or_default())).collect())
    }

    /// Counts anew.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn forget_requests(&self) -> Result<()> {
        self.control("DELETE", "requests", "").map(drop)
    }

    /// What an instance shows on its console.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn console(&self, instance: &str, output: &str) -> Result<()> {
        let order = json!({ "instance": instance, "output": output });
        self.control("POST", "console", &order.to_string()).map(drop)
    }

    /// Images that are made from now on are pending for a while, and fail then if there is a reason to.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn images_take(&self, time: Duration, fail: Option<&str>) -> Result<()> {
        let mut order = json!({ "pending": time.as_secs_f64() });
        if let Some(reason) = fail {
            order["then"] = "failed".into();
            order["reason"] = reason.into();
        }
        self.control("POST", "images", &order.to_string()).map(drop)
    }

    /// Listings of images, instances and snapshots come in pages of so many at most.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn pages(&self, most: u32) -> Result<()> {
        self.control("POST", "pages", &json!({ "most": most }).to_string()).map(drop)
    }

    /// Instances that change their state from now on take so long.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn instances_take(&self, time: Duration) -> Result<()> {
        let time = time.as_secs_f64();
        let order = json!({ "pending": time, "stopping": time, "shutting-down": time });
        self.control("POST", "instances", &order.to_string()).map(drop)
    }

    /// Instances that start from now on are pending for a second, and stop then.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn starts_fail(&self) -> Result<()> {
        let order = json!({ "pending": 1, "instead": "stopped" });
        self.control("POST", "instances", &order.to_string()).map(drop)
    }

    /// What there is beside this has run out of time, without anybody's waiting for it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn run_out(&self, but: &BTreeMap<String, Vec<String>>) -> Result<()> {
        for (kind, ids) in self.inventory()? {
            for id in ids.iter().filter(|id| !but[&kind].contains(id)) {
                let past = [("Tag.1.Key", "sindri_deadline"), ("Tag.1.Value", "2026-01-01T00:00:00Z")];
                let tagged = self.ec2("CreateTags", &[&[("ResourceId.1", id.as_str())], &past[..]].concat());
                // The last request of a process that was killed may still take something away.
                if let Err(error) = tagged
                    && !error.to_string().contains(".NotFound</Code>")
                {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Ids of all there is in all regions, by kind: `instances`, `volumes`, `snapshots`, `images`, `key_pairs`,
    /// `security_groups`.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn inventory(&self) -> Result<BTreeMap<String, Vec<String>>> {
        serde_json::from_value(self.control("GET", "inventory", "")?).context("reading the inventory")
    }

    /// # Errors
    /// When there is anything but images and their snapshots, which scenarios start from: names it all.
    pub fn ensure_no_machines(&self) -> Result<()> {
        let mut left = self.inventory()?;
        left.retain(|kind, ids| !["images", "snapshots"].contains(&kind.as_str()) && !ids.is_empty());
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }

    /// An image to launch from, registered by somebody else than the provider.
    ///
    /// # Errors
    /// When it is refused.
    pub fn image(&self, name: &str) -> Result<String> {
        let parameters = [("Name", name), ("Architecture", "x86_64"), ("RootDeviceName", "/dev/xvda")];
        let answer = self.ec2("RegisterImage", &parameters)?;
        element(&answer, "imageId").map(str::to_owned).context("no image id")
    }

    /// An image with tags in a region, registered by somebody else than the provider. Returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn register(&self, region: &str, name: &str, tags: &[(&str, &str)]) -> Result<String> {
        let mut parameters =
            vec![("Name".to_owned(), name), ("TagSpecification.1.ResourceType".to_owned(), "image")];
        for (number, (key, value)) in (1..).zip(tags) {
            parameters.push((format!("TagSpecification.1.Tag.{number}.Key"), key));
            parameters.push((format!("TagSpecification.1.Tag.{number}.Value"), value));
        }
        let parameters: Vec<(&str, &str)> =
            parameters.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let answer = self.ec2_in(region, "RegisterImage", &parameters)?;
        element(&answer, "imageId").map(str::to_owned).context("no image id")
    }

    /// What somebody else does in the scenarios' usual region: EC2's query interface. Returns the XML.
    ///
    /// # Errors
    /// When it is refused.
    pub fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
        self.ec2_in(REGION, action, parameters)
    }

    /// The same in another region.
    ///
    /// # Errors
    /// When it is refused.
    pub fn ec2_in(&self, region: &str, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
        let fixed = [("Action", action), ("Version", "2016-11-15")];
        let asked = fixed.iter().chain(parameters);
        let pairs: Vec<String> = asked.map(|(name, value)| format!("{name}={}", encode(value))).collect();
        // The emulator reads the region from a signature that it does not check.
        let header = format!(
            "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=0\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        );
        let (status, body) = self.request("POST", "/", &header, &pairs.join("&"))?;
        ensure!(status == 200, "{action}: {body}");
        Ok(body)
    }

    fn control(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let (status, body) = self.request(method, &format!("/_rig/{path}"), "", body)?;
        ensure!(status == 200, "{method} {path}: {status} {body}");
        serde_json::from_str(&body).with_context(|| format!("{method} {path}: {body:?}"))
    }

    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<(u16, String)> {
        let address = self.url.strip_prefix("http://").context("a URL")?;
        let mut stream = TcpStream::connect(address).context("connecting to moto")?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        Ok((status, body.to_owned()))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        if let Some(origin) = ORIGIN.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // What cannot be told to end has ended.
            let _ = writeln!(origin.orders, "end {}", self.number);
        }
    }
}

/// The text of the first element of this name.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    xml.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// For a form (application/x-www-form-urlencoded).
fn encode(value: &str) -> String {
    value.bytes().fold(String::new(), |text, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            text + &char::from(byte).to_string()
        }
        _ => text + &format!("%{byte:02X}"),
    })
}
