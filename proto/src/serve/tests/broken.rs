//! What no host sends: frames that are no HTTP/2, messages that are no gRPC or no protobuf, and values that are none.

use std::cell::Cell;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config as Rounds, TestRunner};
use prost::Message as _;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::host::{Host, THING};
use super::provider::{Config, Lookup};
use crate::model::Model;
use crate::rpc::wire::{self, DynamicValue, get_metadata};
use crate::schema::Schema;
use crate::serve::control::grpc_health::HealthCheckRequest;
use crate::value::{Type, Value, msgpack};

#[tokio::test]
async fn broken_frames_end_their_connection_only() {
    use tokio::io::AsyncWriteExt as _;
    let mut host = Host::start().await;
    let rounds = Rounds::default().cases;
    let mut random = TestRunner::deterministic();
    let mut nonsense = |size| -> Vec<u8> {
        let mut bytes = vec![0; size];
        random.rng().fill_bytes(&mut bytes);
        bytes
    };
    // A preface, then frames of every type: with nonsense lengths and content first, then some whose lengths are right.
    for round in 0..rounds {
        let [kind, ..] = round.to_le_bytes();
        let mut stream = tokio::net::UnixStream::connect(&host.plugin.path).await.unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        if round < 256 {
            bytes.extend([0xff, 0xff, kind, kind, 0xff, 0, 0, 0, kind]);
            bytes.extend(std::iter::repeat_n(kind, 64));
        } else {
            // Settings, without which nothing else is read.
            bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
            for kind in [kind % 10, kind] {
                let head = nonsense(2);
                bytes.extend([0, 0, head[0] % 64, kind, head[1], 0, 0, 0, head[1] % 4]);
                bytes.extend(nonsense(usize::from(head[0] % 64)));
            }
        }
        // The server may have hung up already.
        let _ = stream.write_all(&bytes).await;
    }
    assert!(host.client.get_metadata(get_metadata::Request {}).await.is_ok());
}

/// What is wrong with a call.
#[derive(Debug, Clone)]
enum Damage {
    /// All of its body is noise.
    Noise(Vec<u8>),
    /// Its message has another length than it says.
    Length(u32),
    /// Its message is said to be compressed.
    Compressed(u8),
    /// Its message ends early.
    Cut(Index),
    /// Bytes of its message are others.
    Bytes(Vec<(Index, u8)>),
    /// A value in its message ends early.
    ValueCut(Index),
    /// Bytes of a value in its message are others.
    ValueBytes(Vec<(Index, u8)>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = || prop::collection::vec((any::<Index>(), 1..=u8::MAX), 1..4);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Damage::Noise),
        prop_oneof![0..400_u32, any::<u32>()].prop_map(Damage::Length),
        prop_oneof![Just(1), 2..=u8::MAX].prop_map(Damage::Compressed),
        any::<Index>().prop_map(Damage::Cut),
        bytes().prop_map(Damage::Bytes),
        any::<Index>().prop_map(Damage::ValueCut),
        bytes().prop_map(Damage::ValueBytes),
    ]
}

impl Damage {
    fn of_value(&self, value: &mut Vec<u8>) {
        match self {
            Self::ValueCut(at) => value.truncate(at.index(value.len())),
            Self::ValueBytes(bytes) => change(value, bytes),
            _ => {}
        }
    }

    /// The body that carries this message.
    fn of_message(self, mut message: Vec<u8>) -> Vec<u8> {
        let (mut flag, mut length) = (0, None);
        match self {
            Self::Noise(noise) => return noise,
            Self::Length(other) => length = Some(other),
            Self::Compressed(other) => flag = other,
            Self::Cut(at) => message.truncate(at.index(message.len() + 1)),
            Self::Bytes(bytes) => change(&mut message, &bytes),
            Self::ValueCut(_) | Self::ValueBytes(_) => {}
        }
        let length = length.unwrap_or(u32::try_from(message.len()).unwrap());
        [&[flag][..], &length.to_be_bytes(), &message].concat()
    }
}

fn change(message: &mut [u8], bytes: &[(Index, u8)]) {
    for (at, by) in bytes {
        if !message.is_empty() {
            message[at.index(message.len())] ^= by;
        }
    }
}

/// Values on their way into messages; `damage` sees each of them first.
struct Values<'h> {
    host: &'h Host,
    damage: &'h dyn Fn(&mut Vec<u8>),
}

impl Values<'_> {
    fn pack(&self, ty: &Type, value: Value) -> Option<DynamicValue> {
        let mut msgpack = msgpack::encode(ty, &ty.conform(value).unwrap());
        (self.damage)(&mut msgpack);
        Some(DynamicValue { msgpack: msgpack.into(), ..DynamicValue::default() })
    }

    fn json(&self, json: &str) -> Option<wire::RawState> {
        let mut json = json.as_bytes().to_vec();
        (self.damage)(&mut json);
        Some(wire::RawState { json, ..Default::default() })
    }

    fn of<M: Model>(&self, key: &str, value: &str) -> Option<DynamicValue> {
        self.pack(Schema::of::<M>(0).ty(), Value::object([(key, value)]))
    }

    fn none(&self) -> Option<DynamicValue> {
        self.pack(&self.host.ty, Value::Null)
    }

    fn thing(&self, size: i64) -> Option<DynamicValue> {
        let full = [
            ("name", Value::from("web")),
            ("size", Value::from(size)),
            ("tags", Value::object([("a", "1")])),
            ("zones", Value::from(vec!["b", "a"])),
            ("disks", Value::from(vec![Value::object([("size_gb", 5)])])),
            ("rules", Value::from(vec![Value::object([("port", 80)]), Value::object([("port", 443)])])),
            ("secret_wo", Value::Unknown),
            ("extra", Value::object([("x", Value::from(vec![1, 2]))])),
            ("timeouts", Value::object([("create", "5m")])),
        ];
        self.pack(&self.host.ty, Value::object(full))
    }
}

/// A call's path and message.
type Call = (&'static str, Vec<u8>);

macro_rules! call {
    ($rpc:literal, $module:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        #[allow(clippy::needless_update)]
        let request = wire::$module::Request { $($field: $value,)* ..Default::default() };
        (concat!("tfplugin6.Provider/", $rpc), request.encode_to_vec())
    }};
}

fn plan(prior: Option<DynamicValue>, new: Option<DynamicValue>, config: Option<DynamicValue>) -> Call {
    call!(
        "PlanResourceChange",
        plan_resource_change {
            type_name: THING.into(),
            prior_state: prior,
            proposed_new_state: new,
            config: config,
        }
    )
}

fn apply(prior: Option<DynamicValue>, new: Option<DynamicValue>, config: Option<DynamicValue>) -> Call {
    call!(
        "ApplyResourceChange",
        apply_resource_change {
            type_name: THING.into(),
            prior_state: prior,
            planned_state: new,
            config: config,
        }
    )
}

fn upgrade(version: i64, stored: Option<wire::RawState>) -> Call {
    call!(
        "UpgradeResourceState",
        upgrade_resource_state { type_name: THING.into(), version: version, raw_state: stored }
    )
}

fn of_resources(values: &Values<'_>) -> Vec<Call> {
    let (none, thing) = (|| values.none(), |size| values.thing(size));
    let stored = r#"{"name": "a", "extra": {"value": [1, "x"], "type": ["tuple", ["number", "string"]]}}"#;
    vec![
        call!(
            "ValidateResourceConfig",
            validate_resource_config { type_name: THING.into(), config: thing(1) }
        ),
        call!("ReadResource", read_resource { type_name: THING.into(), current_state: thing(1) }),
        plan(none(), thing(1), thing(1)),
        plan(thing(1), thing(2), thing(2)),
        apply(none(), thing(1), thing(1)),
        apply(thing(1), thing(2), thing(2)),
        apply(thing(1), none(), none()),
        upgrade(1, values.json(r#"{"label": "old", "size": 5}"#)),
        upgrade(2, values.json(stored)),
        call!("ImportResourceState", import_resource_state { type_name: THING.into(), id: "id-a".into() }),
        call!(
            "MoveResourceState",
            move_resource_state {
                source_provider_address: "example.com/other/other".into(),
                source_type_name: "other_thing".into(),
                source_schema_version: 3,
                source_state: values.json(r#"{"title": "web", "more": [1, {"a": null}]}"#),
                target_type_name: THING.into(),
            }
        ),
    ]
}

fn of_all_else(values: &Values<'_>) -> Vec<Call> {
    let region = || values.of::<Config>("region", "here");
    let lookup = || values.of::<Lookup>("name", "abc");
    let name = || "test_lookup".to_owned();
    let list = values.pack(&Type::Dynamic, Value::from(vec!["a", "b"]));
    vec![
        ("grpc.health.v1.Health/Check", HealthCheckRequest { service: "plugin".into() }.encode_to_vec()),
        call!("GetMetadata", get_metadata {}),
        call!("GetProviderSchema", get_provider_schema {}),
        call!("GetFunctions", get_functions {}),
        call!("StopProvider", stop_provider {}),
        call!("ValidateProviderConfig", validate_provider_config { config: region() }),
        call!(
            "ConfigureProvider",
            configure_provider { terraform_version: "1.12.6".into(), config: region() }
        ),
        call!(
            "ValidateDataResourceConfig",
            validate_data_resource_config { type_name: name(), config: lookup() }
        ),
        call!("ReadDataSource", read_data_source { type_name: name(), config: lookup() }),
        call!(
            "CallFunction",
            call_function { name: "measure".into(), arguments: list.into_iter().collect() }
        ),
    ]
}

/// Every call that ends by itself and leaves the server running.
fn calls(host: &Host, damage: &dyn Fn(&mut Vec<u8>)) -> Vec<Call> {
    let values = Values { host, damage };
    [of_resources(&values), of_all_else(&values)].concat()
}

/// How a call with this body ends.
async fn answer(channel: &Channel, path: &str, body: Vec<u8>) -> Status {
    let request = http::Request::post(format!("http://localhost/{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::from(body)))
        .unwrap();
    let whole = async {
        let (head, body) = channel.clone().oneshot(request).await.unwrap().into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
        Status::from_header_map(&trailers).or_else(|| Status::from_header_map(&head.headers))
    };
    let status = tokio::time::timeout(Duration::from_secs(60), whole).await.expect("no answer");
    status.expect("an answer without a status")
}

#[test]
fn every_damaged_call_has_an_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut host = runtime.block_on(Host::start());
    let channel = runtime.block_on(host.plugin.connect()).unwrap();
    let values = Cell::new(0);
    let good = calls(&host, &|_| values.set(values.get() + 1));
    let answer = |path, body| runtime.block_on(answer(&channel, path, body));
    let all_is_well = || {
        for (path, message) in good.clone() {
            let status = answer(path, Damage::Bytes(Vec::new()).of_message(message));
            assert_eq!(status.code(), Code::Ok, "{path}: {status}");
        }
    };
    all_is_well();
    proptest!(|(which in any::<Index>(), damage in damage())| {
        let left = Cell::new(which.index(values.get()));
        let all = calls(&host, &|value| {
            if left.get() == 0 {
                damage.of_value(value);
            }
            left.set(left.get().wrapping_sub(1));
        });
        let damaged = all.iter().zip(&good).position(|(one, good)| one != good);
        let (path, message) = all[damaged.unwrap_or(which.index(all.len()))].clone();
        let compressed = matches!(damage, Damage::Compressed(_));
        let status = answer(path, damage.of_message(message));
        prop_assert!(!compressed || status.code() != Code::Ok, "{path} was read, compressed or not");
    });
    all_is_well();
    assert!(runtime.block_on(host.client.get_metadata(get_metadata::Request {})).is_ok());
}
