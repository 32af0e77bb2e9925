//! A provider whose objects live in memory and do what their `behaviour` says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    Attr, CancellationToken, CreateRequest, DataSource, DeleteRequest, Diagnostic, Diagnostics,
    DynDataSource, DynResource, Function, FunctionError, FunctionSignature, Model, MovedFrom, Parameter,
    Path, Plan, PlanRequest, Provider, ReadRequest, Resource, State, StateSink, Timeouts, Type,
    UpdateRequest, Value, async_trait,
};

/// The configuration.
#[derive(Debug, Clone, Default, Model)]
pub(super) struct Config {
    /// Where things live.
    #[attr(optional)]
    pub(super) region: Attr<String>,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Model)]
pub(super) struct Disk {
    /// How large.
    #[attr(required)]
    pub(super) size_gb: Attr<u32>,
    /// Which kind.
    #[attr(optional, default = "ssd")]
    pub(super) kind: Attr<String>,
    /// Its identifier.
    #[attr(computed, keep_prior)]
    pub(super) serial: Attr<String>,
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Model)]
pub(super) struct Rule {
    /// Which port.
    #[attr(required, validate = not_zero)]
    pub(super) port: Attr<u16>,
    /// Which protocol.
    #[attr(optional, default = "tcp")]
    pub(super) protocol: Attr<String>,
}

/// A thing.
#[derive(Debug, Clone, Default, Model)]
pub(super) struct Thing {
    /// Its name.
    #[attr(required, requires_replace, validate = not_empty)]
    pub(super) name: Attr<String>,
    /// How large.
    #[attr(optional, default = 10)]
    pub(super) size: Attr<i64>,
    /// Labels.
    #[attr(optional)]
    pub(super) tags: Attr<BTreeMap<String, String>>,
    /// Where.
    #[attr(optional)]
    pub(super) zones: Attr<BTreeSet<String>>,
    /// Disks.
    #[attr(optional)]
    pub(super) disks: Attr<Vec<Disk>>,
    /// Rules.
    #[attr(optional)]
    pub(super) rules: Attr<BTreeSet<Rule>>,
    /// A secret.
    #[attr(optional, write_only, sensitive)]
    pub(super) secret_wo: Attr<String>,
    /// What goes wrong.
    #[attr(optional)]
    pub(super) behaviour: Attr<String>,
    /// Anything.
    #[attr(optional)]
    pub(super) extra: Attr<Value>,
    /// How long things may take.
    #[attr(optional)]
    pub(super) timeouts: Attr<Timeouts>,
    /// Its identifier.
    #[attr(computed, keep_prior)]
    pub(super) id: Attr<String>,
    /// How often it was changed.
    #[attr(computed)]
    pub(super) revision: Attr<i64>,
    /// How long the secret was.
    #[attr(computed)]
    pub(super) secret_length: Attr<u32>,
}

fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(()) }
}

fn not_zero(port: &u16) -> Result<(), String> {
    if *port == 0 { Err("must not be zero".to_owned()) } else { Ok(()) }
}

pub(super) struct Things;

fn made(planned: &Thing, config: &Thing, revision: i64) -> Thing {
    let mut thing = planned.clone();
    thing.id = format!("id-{}", planned.name.known().unwrap()).into();
    thing.revision = revision.into();
    let secret = config.secret_wo.known().map(String::len).unwrap_or_default();
    thing.secret_length = u32::try_from(secret).unwrap().into();
    if let Attr::Known(disks) = &mut thing.disks {
        for (position, disk) in disks.iter_mut().enumerate() {
            disk.serial = disk.serial.clone().into_known().unwrap_or(format!("disk-{position}")).into();
        }
    }
    // Never to be stored; the server must see to it.
    thing.secret_wo = config.secret_wo.clone();
    thing
}

impl Things {
    async fn misbehave(
        planned: &Thing,
        config: &Thing,
        state: &mut StateSink<Thing>,
        cancel: &CancellationToken,
    ) -> Result<(), Diagnostics> {
        let partial = Thing { id: "partial".into(), ..planned.clone() };
        match planned.behaviour.known_deref() {
            Some("fail") => {
                return Err(Diagnostic::error("Failed", "As it was told.").at("behaviour").into());
            }
            Some("partial") => {
                state.set(partial);
                state.set_private(b"half".to_vec());
                return Err(Diagnostic::error("Failed", "Half way.").into());
            }
            Some("panic") => {
                state.set(partial);
                panic!("told to panic");
            }
            Some("wait") => {
                state.set(partial);
                cancel.cancelled().await;
                return Err(Diagnostic::error("Cancelled", "The user interrupted.").into());
            }
            Some("stubborn") => {
                BEGUN.add_permits(1);
                RELEASED.acquire().await.unwrap().forget();
            }
            Some("linger") => tokio::time::sleep(std::time::Duration::from_millis(300)).await,
            Some("wrong") => state.set(Thing { name: "other".into(), ..made(planned, config, 1) }),
            Some("unknown") => state.set(Thing { revision: Attr::Unknown, ..made(planned, config, 1) }),
            _ => {}
        }
        Ok(())
    }
}

/// What is stubborn has begun, and may end: it hears of no interrupt.
pub(super) static BEGUN: Semaphore = Semaphore::const_new(0);
pub(super) static RELEASED: Semaphore = Semaphore::const_new(0);
pub(super) static LINGERED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[async_trait]
impl Resource for Things {
    type Model = Thing;

    fn name(&self) -> &'static str {
        "thing"
    }

    fn version(&self) -> i64 {
        2
    }

    async fn validate(&self, config: &Thing, diags: &mut Diagnostics) {
        if config.size.known().is_some_and(|size| *size < 0) {
            diags.error("size", "Negative size", "`size` must not be negative.");
        }
        assert_ne!(config.behaviour.known_deref(), Some("panic-validate"), "told to panic");
    }

    async fn plan(&self, request: PlanRequest<'_, Thing>, plan: &mut Plan<Thing>, diags: &mut Diagnostics) {
        match request.config.behaviour.known_deref() {
            Some("plan-revision") => plan.set("revision", 7),
            Some("plan-bug") => plan.set("name", "other"),
            Some("plan-nowhere") => plan.set(Path::from("disks").index(9), Value::Null),
            Some("plan-touch") => plan.unknown("revision"),
            Some("plan-error") => diags.error("behaviour", "Refused", "As it was told."),
            _ => {}
        }
    }

    async fn create(
        &self,
        request: CreateRequest<Thing>,
        state: &mut StateSink<Thing>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let CreateRequest { planned, config, cancel, .. } = request;
        Self::misbehave(&planned, &config, state, &cancel).await?;
        match planned.behaviour.known_deref() {
            Some("wrong" | "unknown" | "nothing") => return Ok(()),
            Some("linger") => drop(LINGERED.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
            Some("warn") => diags.warning("behaviour", "Careful", "As it was told."),
            _ => {}
        }
        state.set(made(&planned, &config, 1));
        state.set_private(b"made".to_vec());
        Ok(())
    }

    async fn read(
        &self,
        request: ReadRequest<Thing>,
        _: &mut Diagnostics,
    ) -> Result<Option<State<Thing>>, Diagnostics> {
        match request.state.behaviour.known_deref() {
            Some("gone") => Ok(None),
            Some("panic-read") => panic!("told to panic"),
            _ => Ok(Some(request.state.into())),
        }
    }

    async fn update(
        &self,
        request: UpdateRequest<Thing>,
        state: &mut StateSink<Thing>,
        _: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let UpdateRequest { prior, planned, config, cancel, .. } = request;
        Self::misbehave(&planned, &config, state, &cancel).await?;
        let revision = planned.revision.into_known();
        state.set(made(&planned, &config, revision.unwrap_or(prior.revision.unwrap_or_default() + 1)));
        Ok(())
    }

    async fn delete(&self, request: DeleteRequest<Thing>, _: &mut Diagnostics) -> Result<(), Diagnostics> {
        match request.prior.behaviour.known_deref() {
            Some("undeletable") => Err(Diagnostic::error("In use", "It cannot be deleted.").into()),
            Some("panic-delete") => panic!("told to panic"),
            _ => Ok(()),
        }
    }

    async fn import(&self, id: &str) -> Result<State<Thing>, Diagnostics> {
        if id == "id-of-nobody-who-answers" {
            std::future::pending::<()>().await;
        }
        let name =
            id.strip_prefix("id-").ok_or_else(|| Diagnostic::error("Bad id", "Ids begin with `id-`."))?;
        let model = Thing { name: name.into(), id: id.into(), ..Thing::default() };
        Ok(State { model, private: Some(b"imported".to_vec()) })
    }

    async fn take_over(&self, source: MovedFrom) -> Result<Option<State<Thing>>, Diagnostics> {
        if source.type_name != "other_thing" {
            return Ok(None);
        }
        assert_eq!((source.provider.as_str(), source.version), ("example.com/other/other", 3));
        let Some(title) = source.state.get("title").cloned() else {
            return Err(Diagnostic::error("No title", "There is none.").into());
        };
        let Value::String(title) = title else {
            return Err(Diagnostic::error("No text", "It is none.").into());
        };
        let model = Thing { name: title.to_string().into(), id: "id-moved".into(), ..Thing::default() };
        Ok(Some(State { model, private: Some(b"moved".to_vec()) }))
    }

    async fn upgrade(&self, version: i64, state: Value) -> Result<Value, Diagnostics> {
        assert_eq!(version, 1, "there was no other");
        let Value::Object(mut entries) = state else { return Ok(state) };
        // Version 1 called it `label`.
        if let Some(name) = entries.remove("label") {
            entries.insert("name".to_owned(), name);
        }
        Ok(Value::Object(entries))
    }
}

/// A thing that is looked up.
#[derive(Debug, Clone, Model)]
pub(super) struct Lookup {
    /// Its name.
    #[attr(required)]
    pub(super) name: Attr<String>,
    /// Its length.
    #[attr(computed)]
    pub(super) length: Attr<u32>,
}

pub(super) struct Lookups;

#[async_trait]
impl DataSource for Lookups {
    type Model = Lookup;

    fn name(&self) -> &'static str {
        "lookup"
    }

    async fn read(
        &self,
        mut config: Lookup,
        _: CancellationToken,
        _: &mut Diagnostics,
    ) -> Result<Lookup, Diagnostics> {
        let name = config.name.known_deref().unwrap_or_default();
        if name == "none" {
            return Err(Diagnostic::error("Not found", "There is no such thing.").at("name").into());
        }
        config.length = u32::try_from(name.len()).unwrap().into();
        Ok(config)
    }
}

/// Tells the length of what it is given.
pub(super) struct Measure;

impl Function for Measure {
    fn name(&self) -> &'static str {
        "measure"
    }

    fn signature(&self) -> FunctionSignature {
        FunctionSignature {
            parameters: vec![Parameter::new("what", Type::Dynamic, "A list or an object.")],
            variadic: Some(Parameter::new("more", Type::String, "Further texts.")),
            returns: Type::Number,
            summary: "Measures.".to_owned(),
            description: "Counts elements, and the bytes of further texts.".to_owned(),
        }
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError> {
        let (what, more) = arguments.split_first().unwrap();
        let count = match what.untyped() {
            Value::List(elements) => elements.len(),
            Value::Object(entries) => entries.len(),
            Value::Bool(_) => panic!("told to panic"),
            other => return Err(FunctionError::argument(0, format!("{} has no length", other.kind()))),
        };
        let more: usize = more.iter().filter_map(Value::as_str).map(str::len).sum();
        Ok(Value::from(i64::try_from(count + more).unwrap()))
    }
}

pub(super) struct TestProvider;

#[async_trait]
impl Provider for TestProvider {
    type Config = Config;

    fn type_name(&self) -> &'static str {
        "test"
    }

    async fn configure(&self, config: Config, host_version: &str) -> Result<(), Diagnostics> {
        assert_eq!(host_version, "1.12.6");
        match config.region.known_deref() {
            Some("nowhere") => {
                Err(Diagnostic::error("No such region", "Choose another.").at("region").into())
            }
            _ => Ok(()),
        }
    }

    fn resources(&self) -> Vec<Arc<dyn DynResource>> {
        vec![Arc::new(Things)]
    }

    fn data_sources(&self) -> Vec<Arc<dyn DynDataSource>> {
        vec![Arc::new(Lookups)]
    }

    fn functions(&self) -> Vec<Arc<dyn Function>> {
        vec![Arc::new(Measure)]
    }
}
