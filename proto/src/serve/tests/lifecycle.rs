//! Planning and applying through the whole server.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::host::{Host, THING, texts};
use super::provider::{BEGUN, LINGERED, RELEASED};
use crate::Path;
use crate::rpc::wire;
use crate::value::Value;

fn config(host: &Host, entries: &[(&str, Value)]) -> Value {
    let name = ("name", Value::from("web"));
    host.thing(Value::object(std::iter::once(name).chain(entries.iter().cloned())))
}

#[tokio::test]
async fn what_was_created_plans_empty() {
    let mut host = Host::start().await;
    let full = [
        ("tags", Value::object([("a", "1")])),
        ("zones", Value::from(vec!["b", "a"])),
        ("disks", Value::from(vec![Value::object([("size_gb", 5)])])),
        ("rules", Value::from(vec![Value::object([("port", 80)]), Value::object([("port", 443)])])),
        ("secret_wo", Value::from("hush")),
        ("extra", Value::object([("x", Value::from(vec![1, 2]))])),
        ("timeouts", Value::object([("create", "5m")])),
    ];
    let empties = [("tags", Value::Object(Default::default())), ("zones", Value::List(Vec::new()))];
    for entries in [&[][..], &full, &empties] {
        let config = config(&host, entries);
        let state = host.create(&config).await;
        assert!(state.is_wholly_known());
        assert_eq!(state.get("secret_wo"), Some(&Value::Null), "a write-only value was stored");
        assert_eq!(state.get("size"), Some(&Value::from(10)), "the default is missing");
        assert_eq!(state.get("tags"), config.get("tags"), "null and empty are not the same");
        let plan = host.plan(&state, &config).await;
        assert_eq!(texts(&plan.diagnostics), [""; 0]);
        assert_eq!(host.read(plan.planned_state), state);
        assert!(plan.requires_replace.is_empty());
        assert_eq!(plan.planned_private, b"prior");
    }
}

#[tokio::test]
async fn write_only_values_reach_the_resource_and_no_plan() {
    let mut host = Host::start().await;
    let config = config(&host, &[("secret_wo", Value::from("hush"))]);
    let plan = host.plan(&Value::Null, &config).await;
    assert_eq!(host.read(plan.planned_state).get("secret_wo"), Some(&Value::Null));
    let state = host.create(&config).await;
    assert_eq!(state.get("secret_length"), Some(&Value::from(4)));
}

#[tokio::test]
async fn an_update_keeps_what_never_changes_and_computes_the_rest() {
    let mut host = Host::start().await;
    let state = host.create(&config(&host, &[])).await;
    let config = config(&host, &[("size", Value::from(20))]);
    let plan = host.plan(&state, &config).await;
    let planned = host.read(plan.planned_state);
    assert_eq!(planned.get("id"), state.get("id"));
    assert_eq!(planned.get("revision"), Some(&Value::Unknown));
    let applied = host.apply(&state, &planned, &config).await;
    assert_eq!(texts(&applied.diagnostics), [""; 0]);
    assert_eq!(host.read(applied.new_state).get("revision"), Some(&Value::from(2)));
    assert_eq!(applied.private, b"planned");
}

#[tokio::test]
async fn only_a_real_change_requires_replacement() {
    let mut host = Host::start().await;
    let state = host.create(&config(&host, &[])).await;
    let renamed = host.thing(Value::object([("name", "other")]));
    let plan = host.plan(&state, &renamed).await;
    assert_eq!(plan.requires_replace.len(), 1);
    let unknown = host.thing(Value::object([("name", Value::Unknown)]));
    assert_eq!(host.plan(&state, &unknown).await.requires_replace.len(), 1);
    let resized = config(&host, &[("size", Value::from(3))]);
    assert!(host.plan(&state, &resized).await.requires_replace.is_empty());
}

#[tokio::test]
async fn destruction_is_planned_and_applied() {
    let mut host = Host::start().await;
    let state = host.create(&config(&host, &[])).await;
    let plan = host.plan(&state, &Value::Null).await;
    assert_eq!(host.read(plan.planned_state), Value::Null);
    let applied = host.apply(&state, &Value::Null, &Value::Null).await;
    assert_eq!(texts(&applied.diagnostics), [""; 0]);
    assert_eq!(host.read(applied.new_state), Value::Null);
    assert!(applied.private.is_empty());
}

#[tokio::test]
async fn a_failed_destruction_keeps_the_object() {
    let mut host = Host::start().await;
    for behaviour in ["undeletable", "panic-delete"] {
        let state = host.create(&config(&host, &[("behaviour", Value::from(behaviour))])).await;
        let applied = host.apply(&state, &Value::Null, &Value::Null).await;
        assert_eq!(applied.diagnostics.len(), 1);
        assert_eq!(host.read(applied.new_state), state, "{behaviour}");
        assert_eq!(applied.private, b"planned");
    }
}

/// `behaviour`, what the diagnostics say, and the id in the state beside them.
#[tokio::test]
async fn a_failed_creation_leaves_what_exists() {
    let mut host = Host::start().await;
    let cases = [
        ("fail", "behaviour: Failed: As it was told.", None),
        ("partial", ": Failed: Half way.", Some("partial")),
        ("panic", "told to panic", Some("partial")),
        ("wrong", "name: Provider produced an inconsistent result", Some("id-web")),
        ("unknown", "revision: Provider produced an inconsistent result", Some("id-web")),
        ("nothing", "left no state", None),
    ];
    for (behaviour, text, id) in cases {
        let config = config(&host, &[("behaviour", Value::from(behaviour))]);
        let plan = host.plan(&Value::Null, &config).await;
        let planned = host.read(plan.planned_state);
        let applied = host.apply(&Value::Null, &planned, &config).await;
        let told = texts(&applied.diagnostics);
        assert!(told.len() == 1 && told[0].contains(text), "{behaviour}: {told:?}");
        let state = host.read(applied.new_state);
        assert_eq!(state.at(&Path::from("id")), id.map(Value::from).as_ref(), "{behaviour}");
        assert!(state.is_wholly_known());
        let private: &[u8] = if behaviour == "partial" { b"half" } else { b"planned" };
        assert_eq!(applied.private, private);
    }
}

#[tokio::test]
async fn a_failed_update_without_state_keeps_the_prior_one() {
    let mut host = Host::start().await;
    let state = host.create(&config(&host, &[])).await;
    let config = config(&host, &[("behaviour", Value::from("fail"))]);
    let planned = host.plan(&state, &config).await.planned_state;
    let planned = host.read(planned);
    let applied = host.apply(&state, &planned, &config).await;
    assert_eq!(host.read(applied.new_state), state);
}

#[tokio::test]
async fn stop_cancels_what_runs_and_nothing_later() {
    let mut host = Host::start().await;
    let waiting = config(&host, &[("behaviour", Value::from("wait"))]);
    let planned = host.plan(&Value::Null, &waiting).await.planned_state;
    let planned = host.read(planned);
    let request = host.apply_request(&Value::Null, &planned, &waiting);
    let mut client = host.client.clone();
    let running = tokio::spawn(async move { client.apply_resource_change(request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.is_finished());
    host.client.stop_provider(wire::stop_provider::Request {}).await.unwrap();
    let applied = tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
    let applied = applied.into_inner();
    assert_eq!(texts(&applied.diagnostics), [": Cancelled: The user interrupted."]);
    assert_eq!(host.read(applied.new_state).get("id"), Some(&Value::from("partial")));
    // A new operation has a token that has not fired.
    let second = host.apply_request(&Value::Null, &planned, &waiting);
    let mut client = host.client.clone();
    let still = tokio::time::timeout(Duration::from_millis(100), client.apply_resource_change(second)).await;
    assert!(still.is_err(), "a later operation was cancelled, too");
}

#[tokio::test]
async fn stop_is_answered_before_what_it_stops_has_ended() {
    let mut host = Host::start().await;
    let config = config(&host, &[("behaviour", Value::from("stubborn"))]);
    let planned = host.plan(&Value::Null, &config).await.planned_state;
    let planned = host.read(planned);
    let request = host.apply_request(&Value::Null, &planned, &config);
    let mut client = host.client.clone();
    let running = tokio::spawn(async move { client.apply_resource_change(request).await });
    BEGUN.acquire().await.unwrap().forget();
    // A computer that is busy with other tests may hold up one of them.
    let mut soonest = Duration::MAX;
    for _ in 0..5 {
        let asked = Instant::now();
        let stop = host.client.stop_provider(wire::stop_provider::Request {});
        tokio::time::timeout(Duration::from_secs(30), stop).await.expect("it waits for the apply").unwrap();
        soonest = soonest.min(asked.elapsed());
    }
    assert!(soonest < Duration::from_millis(100), "it took {soonest:?}");
    assert!(!running.is_finished());
    RELEASED.add_permits(1);
    let applied = running.await.unwrap().unwrap().into_inner();
    assert_eq!(texts(&applied.diagnostics), [""; 0]);
}

#[tokio::test]
async fn stop_ends_an_import() {
    let mut host = Host::start().await;
    let id = "id-of-nobody-who-answers".to_owned();
    let request =
        wire::import_resource_state::Request { type_name: THING.to_owned(), id, ..Default::default() };
    let mut client = host.client.clone();
    let running = tokio::spawn(async move { client.import_resource_state(request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.is_finished());
    host.client.stop_provider(wire::stop_provider::Request {}).await.unwrap();
    let imported = tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
    let told = texts(&imported.into_inner().diagnostics);
    assert_eq!(told, [": Import cancelled: Reading id-of-nobody-who-answers was cancelled."]);
}

#[tokio::test]
async fn a_host_that_goes_away_does_not_interrupt_an_apply() {
    let mut host = Host::start().await;
    let config = config(&host, &[("behaviour", Value::from("linger"))]);
    let planned = host.plan(&Value::Null, &config).await.planned_state;
    let planned = host.read(planned);
    let request = host.apply_request(&Value::Null, &planned, &config);
    let before = LINGERED.load(Ordering::SeqCst);
    let call = host.client.apply_resource_change(request);
    assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(LINGERED.load(Ordering::SeqCst), before + 1);
}

/// `behaviour` and what the plan's diagnostics say.
#[tokio::test]
async fn a_resource_refines_its_plan_within_the_rules() {
    let mut host = Host::start().await;
    let cases = [
        ("plan-revision", ""),
        ("plan-bug", "name: Provider produced an invalid plan"),
        ("plan-nowhere", "disks[9]: Provider produced an invalid plan"),
        ("plan-error", "behaviour: Refused"),
    ];
    for (behaviour, text) in cases {
        let config = config(&host, &[("behaviour", Value::from(behaviour))]);
        let plan = host.plan(&Value::Null, &config).await;
        let told = texts(&plan.diagnostics).join("\n");
        assert!(told.starts_with(text) && told.is_empty() == text.is_empty(), "{behaviour}: {told}");
        if text.is_empty() {
            assert_eq!(host.read(plan.planned_state).get("revision"), Some(&Value::from(7)));
        }
    }
}

#[tokio::test]
async fn a_resource_can_make_a_change_of_its_own() {
    let mut host = Host::start().await;
    let config = config(&host, &[("behaviour", Value::from("plan-touch"))]);
    let state = host.create(&config).await;
    let planned = host.plan(&state, &config).await.planned_state;
    let planned = host.read(planned);
    assert_eq!(planned.get("revision"), Some(&Value::Unknown));
    assert_eq!(planned.get("id"), state.get("id"));
}
