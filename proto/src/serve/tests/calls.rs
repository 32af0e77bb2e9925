//! Every other RPC through the whole server, with good input and bad.

use super::host::{Host, THING, texts};
use super::provider::{Config, Lookup, TestProvider};
use crate::rpc::wire::{self, DynamicValue};
use crate::schema::{Schema, provider_schema_json};
use crate::value::{Type, Value, msgpack};

fn pack(ty: &Type, value: &Value) -> DynamicValue {
    DynamicValue { msgpack: msgpack::encode(ty, value).into(), ..DynamicValue::default() }
}

async fn validate(host: &mut Host, config: &Value, write_only: bool) -> Vec<String> {
    let capabilities =
        wire::ClientCapabilities { write_only_attributes_allowed: write_only, ..Default::default() };
    let request = wire::validate_resource_config::Request {
        type_name: THING.to_owned(),
        config: host.wire(config),
        client_capabilities: Some(capabilities),
    };
    texts(&host.client.validate_resource_config(request).await.unwrap().into_inner().diagnostics)
}

#[tokio::test]
async fn every_mistake_is_told_at_once() {
    let mut host = Host::start().await;
    let config = host.thing(Value::object([
        ("name", Value::from("")),
        ("size", Value::from(-1)),
        ("disks", Value::from(vec![Value::object([("size_gb", 1)]), Value::object([("kind", "hdd")])])),
        ("rules", Value::from(vec![Value::object([("port", 0)])])),
        ("timeouts", Value::object([("create", "soon")])),
        ("id", Value::from("mine")),
        ("secret_wo", Value::from("hush")),
    ]));
    insta::assert_snapshot!(validate(&mut host, &config, false).await.join("\n"));
    let wrong = host.thing(Value::object([
        ("name", Value::from("web")),
        ("tags", Value::object([("a", Value::Null)])),
        ("disks", Value::from(vec![Value::object([("size_gb", -3)])])),
        ("rules", Value::from(vec![Value::object([("port", 70_000)])])),
    ]));
    insta::assert_snapshot!(validate(&mut host, &wrong, true).await.join("\n"));
}

#[tokio::test]
async fn unknown_values_are_no_mistake() {
    let mut host = Host::start().await;
    let config = host.thing(Value::object([
        ("name", Value::Unknown),
        ("tags", Value::object([("a", Value::Unknown)])),
        ("disks", Value::from(vec![Value::object([("size_gb", Value::Unknown)]), Value::Unknown])),
        ("rules", Value::Unknown),
        ("secret_wo", Value::from("hush")),
    ]));
    assert_eq!(validate(&mut host, &config, true).await, [""; 0]);
    let plan = host.plan(&Value::Null, &config).await;
    assert_eq!(texts(&plan.diagnostics), [""; 0]);
}

#[tokio::test]
async fn a_panic_is_told_and_the_server_lives() {
    let mut host = Host::start().await;
    let config = host.thing(Value::object([("name", "a"), ("behaviour", "panic-validate")]));
    let told = validate(&mut host, &config, true).await;
    assert!(told.len() == 1 && told[0].contains("told to panic"), "{told:?}");
    let fine = host.thing(Value::object([("name", "a")]));
    assert_eq!(validate(&mut host, &fine, true).await, [""; 0]);
}

#[tokio::test]
async fn the_provider_is_checked_and_configured() {
    let mut host = Host::start().await;
    let schema = Schema::of::<Config>(0);
    let ty = schema.ty();
    for (region, wrong) in [("here", 0), ("nowhere", 1)] {
        let config = Some(pack(ty, &Value::object([("region", region)])));
        let check = wire::validate_provider_config::Request { config: config.clone() };
        let checked = host.client.validate_provider_config(check).await.unwrap().into_inner();
        assert_eq!(texts(&checked.diagnostics), [""; 0]);
        let request = wire::configure_provider::Request {
            terraform_version: "1.12.6".to_owned(),
            config,
            ..Default::default()
        };
        let reply = host.client.configure_provider(request).await.unwrap().into_inner();
        assert_eq!(reply.diagnostics.len(), wrong, "{region}");
    }
}

#[tokio::test]
async fn reading_tells_what_is_gone() {
    let mut host = Host::start().await;
    for (behaviour, gone) in [("", false), ("gone", true)] {
        let state = host.thing(Value::object([("name", "a"), ("behaviour", behaviour)]));
        let request = wire::read_resource::Request {
            type_name: THING.to_owned(),
            current_state: host.wire(&state),
            private: b"kept".to_vec(),
            ..Default::default()
        };
        let reply = host.client.read_resource(request).await.unwrap().into_inner();
        assert_eq!(texts(&reply.diagnostics), [""; 0]);
        assert_eq!(reply.new_state.is_none(), gone);
        if !gone {
            assert_eq!(host.read(reply.new_state), state);
            assert_eq!(reply.private, b"kept");
        }
    }
}

async fn upgrade(host: &mut Host, version: i64, raw: wire::RawState) -> (Value, Vec<String>) {
    let request =
        wire::upgrade_resource_state::Request { type_name: THING.to_owned(), version, raw_state: Some(raw) };
    let reply = host.client.upgrade_resource_state(request).await.unwrap().into_inner();
    (host.read(reply.upgraded_state), texts(&reply.diagnostics))
}

fn json(text: &str) -> wire::RawState {
    wire::RawState { json: text.as_bytes().to_vec(), ..Default::default() }
}

#[tokio::test]
async fn stored_state_is_read_and_upgraded() {
    let mut host = Host::start().await;
    let stored = r#"{"name":"a","size":12345678901234567,"gone":{"x":[1]},"zones":["b","a"],"secret_wo":"leak",
        "extra":{"value":[1,"x"],"type":["tuple",["number","string"]]}}"#;
    let (state, told) = upgrade(&mut host, 2, json(stored)).await;
    assert_eq!(told, [""; 0]);
    assert_eq!(state.get("size"), Some(&Value::from(12_345_678_901_234_567)));
    assert_eq!(state.get("zones"), Some(&Value::from(vec!["a", "b"])));
    assert_eq!(state.get("secret_wo"), Some(&Value::Null));
    assert_eq!(state.get("extra").unwrap().as_list().unwrap().len(), 2);

    let (state, told) = upgrade(&mut host, 1, json(r#"{"label":"old","gone":1,"size":5}"#)).await;
    assert_eq!(told, [""; 0]);
    assert_eq!(state.get("name"), Some(&Value::from("old")));

    let flat = wire::RawState { flatmap: [("name".to_owned(), "a".to_owned())].into(), ..Default::default() };
    let cases = [
        (2, flat, "State too old"),
        (3, json("{}"), "State too new"),
        (2, json("{"), "Unreadable request"),
        (2, json(r#"{"name":["a"]}"#), "Unreadable request"),
        (1, json(r#"{"label":[]}"#), "invalid value"),
    ];
    for (version, raw, text) in cases {
        let (state, told) = upgrade(&mut host, version, raw).await;
        assert!(told.len() == 1 && told[0].contains(text), "{told:?}");
        assert_eq!(state, Value::Null);
    }
}

#[tokio::test]
async fn import_finds_by_id() {
    let mut host = Host::start().await;
    let request = |id: &str| wire::import_resource_state::Request {
        type_name: THING.to_owned(),
        id: id.to_owned(),
        ..Default::default()
    };
    let reply = host.client.import_resource_state(request("id-a")).await.unwrap().into_inner();
    let imported = reply.imported_resources.into_iter().next().unwrap();
    assert_eq!(imported.private, b"imported");
    assert_eq!(host.read(imported.state).get("name"), Some(&Value::from("a")));
    let reply = host.client.import_resource_state(request("x\n")).await.unwrap().into_inner();
    assert_eq!(texts(&reply.diagnostics), [": Bad id: Ids begin with `id-`."]);
}

#[tokio::test]
async fn data_sources_read_and_tell() {
    let mut host = Host::start().await;
    let schema = Schema::of::<Lookup>(0);
    let ty = schema.ty();
    for (name, length) in [("abc", Some(3)), ("none", None)] {
        let config = Some(pack(ty, &ty.conform(Value::object([("name", name)])).unwrap()));
        let type_name = "test_lookup".to_owned();
        let check = wire::validate_data_resource_config::Request {
            type_name: type_name.clone(),
            config: config.clone(),
        };
        let checked = host.client.validate_data_resource_config(check).await.unwrap().into_inner();
        assert_eq!(texts(&checked.diagnostics), [""; 0]);
        let request = wire::read_data_source::Request { type_name, config, ..Default::default() };
        let reply = host.client.read_data_source(request).await.unwrap().into_inner();
        let read = reply.state.map(|state| msgpack::decode(ty, &state.msgpack).unwrap());
        assert_eq!(read.as_ref().and_then(|read| read.get("length")), length.map(Value::from).as_ref());
        assert_eq!(reply.diagnostics.is_empty(), length.is_some());
    }
}

#[tokio::test]
async fn functions_are_called_and_blame_arguments() {
    let mut host = Host::start().await;
    let list = pack(&Type::Dynamic, &Value::from(vec!["a", "b"]));
    let text = pack(&Type::String, &Value::from("xyz"));
    let cases = [
        (vec![list.clone()], Ok(2)),
        (vec![list.clone(), text.clone(), text], Ok(8)),
        (vec![pack(&Type::Dynamic, &Value::from("a"))], Err((Some(0), "a string has no length"))),
        (vec![], Err((None, "takes 1 arguments, not 0"))),
        (vec![list.clone(), list], Err((Some(1), "expected string"))),
        (vec![pack(&Type::Dynamic, &Value::from(true))], Err((None, "told to panic"))),
    ];
    for (arguments, expected) in cases {
        let request = wire::call_function::Request { name: "measure".to_owned(), arguments };
        let reply = host.client.call_function(request).await.unwrap().into_inner();
        match expected {
            Ok(number) => {
                let result = msgpack::decode(&Type::Number, &reply.result.unwrap().msgpack).unwrap();
                assert_eq!(result, Value::from(number));
            }
            Err((argument, text)) => {
                let error = reply.error.unwrap();
                assert_eq!(error.function_argument, argument);
                assert!(error.text.contains(text), "{}", error.text);
            }
        }
    }
    let request = wire::call_function::Request { name: "none".to_owned(), arguments: Vec::new() };
    assert!(host.client.call_function(request).await.unwrap().into_inner().error.is_some());
    let functions = host.client.get_functions(wire::get_functions::Request {}).await.unwrap().into_inner();
    assert!(functions.functions.contains_key("measure"));
}

#[tokio::test]
async fn an_object_of_another_type_is_taken_over() {
    let mut host = Host::start().await;
    let request = |json: &'static str| wire::move_resource_state::Request {
        source_provider_address: "example.com/other/other".to_owned(),
        source_type_name: "other_thing".to_owned(),
        source_schema_version: 3,
        source_state: Some(wire::RawState { json: json.into(), ..Default::default() }),
        target_type_name: THING.to_owned(),
        ..Default::default()
    };
    let moved = request(r#"{"title": "web", "more": [1, {"a": null}]}"#);
    let reply = host.client.move_resource_state(moved).await.unwrap().into_inner();
    assert_eq!(texts(&reply.diagnostics), [""; 0]);
    let state = msgpack::decode(&host.ty, &reply.target_state.unwrap().msgpack).unwrap();
    assert_eq!((state.get("name"), state.get("id")), (Some(&"web".into()), Some(&"id-moved".into())));
    assert_eq!(&*reply.target_private, b"moved");
    for (json, expected) in [("{}", "No title"), ("{", "Unreadable request"), ("", "No title")] {
        let reply = host.client.move_resource_state(request(json)).await.unwrap().into_inner();
        assert!(texts(&reply.diagnostics)[0].contains(expected), "{json}: {:?}", reply.diagnostics);
    }
}

#[tokio::test]
async fn what_is_not_offered_is_said_to_be_so() {
    let mut host = Host::start().await;
    let moved = wire::move_resource_state::Request {
        source_type_name: "packer_image".to_owned(),
        target_type_name: THING.to_owned(),
        ..Default::default()
    };
    let reply = host.client.move_resource_state(moved).await.unwrap().into_inner();
    assert!(texts(&reply.diagnostics)[0].contains("`packer_image` cannot become `test_thing`"));
    let identities = wire::get_resource_identity_schemas::Request {};
    let reply = host.client.get_resource_identity_schemas(identities).await.unwrap().into_inner();
    assert!(reply.identity_schemas.is_empty() && reply.diagnostics.is_empty());
    let status = host.client.list_resource(wire::list_resource::Request::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    let request = wire::read_resource::Request { type_name: "test_none".to_owned(), ..Default::default() };
    let reply = host.client.read_resource(request).await.unwrap().into_inner();
    assert!(texts(&reply.diagnostics)[0].contains("no resource type `test_none`"));
}

#[tokio::test]
async fn hostile_values_are_told_and_the_object_is_not_lost() {
    let mut host = Host::start().await;
    for bytes in
        [&[0xc1][..], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0x81, 0xa1, b'x', 0xc0], b"\xa3abc", &[0xc0, 0xc0]]
    {
        let broken = Some(DynamicValue { msgpack: bytes.to_vec().into(), ..DynamicValue::default() });
        let prior = host.thing(Value::object([("name", "a")]));
        let mut request = host.apply_request(&prior, &prior, &prior);
        request.planned_state = broken.clone();
        let reply = host.client.apply_resource_change(request).await.unwrap().into_inner();
        assert_eq!(reply.diagnostics.len(), 1, "{bytes:x?}");
        assert_eq!(host.read(reply.new_state), prior);
        let request = wire::plan_resource_change::Request {
            type_name: THING.to_owned(),
            prior_state: broken,
            ..Default::default()
        };
        let reply = host.client.plan_resource_change(request).await.unwrap().into_inner();
        assert_eq!(reply.diagnostics.len(), 1);
    }
}

#[tokio::test]
async fn a_message_far_beyond_the_usual_bound_travels() {
    let mut host = Host::start().await;
    let text = "x".repeat(20 << 20);
    let config = host.thing(Value::object([("name", "big"), ("behaviour", text.as_str())]));
    let state = host.create(&config).await;
    assert_eq!(state.get("behaviour").unwrap().as_str().map(str::len), Some(text.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once() {
    let host = Host::start().await;
    let state = host.thing(Value::object([("name", "a")]));
    let request = wire::read_resource::Request {
        type_name: THING.to_owned(),
        current_state: host.wire(&state),
        ..Default::default()
    };
    let calls = (0..1_000).map(|_| {
        let (mut client, request) = (host.client.clone(), request.clone());
        tokio::spawn(async move { client.read_resource(request).await })
    });
    for call in futures::future::join_all(calls).await {
        assert_eq!(host.read(call.unwrap().unwrap().into_inner().new_state), state);
    }
}

#[test]
fn the_schema_in_full() {
    let json = provider_schema_json(&TestProvider);
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
}

#[tokio::test]
async fn the_schema_as_hosts_see_it() {
    let mut host = Host::start().await;
    let reply =
        host.client.get_provider_schema(wire::get_provider_schema::Request {}).await.unwrap().into_inner();
    let capabilities = reply.server_capabilities.unwrap();
    assert!(capabilities.plan_destroy && capabilities.get_provider_schema_optional);
    let block = reply.resource_schemas[THING].block.clone().unwrap();
    insta::assert_debug_snapshot!(block.attributes);
    assert!(reply.data_source_schemas.contains_key("test_lookup"));
    let metadata = host.client.get_metadata(wire::get_metadata::Request {}).await.unwrap().into_inner();
    assert_eq!(metadata.resources[0].type_name, THING);
}
