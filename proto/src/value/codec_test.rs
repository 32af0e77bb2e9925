//! Both encodings: what is written is read again, and no bytes whatever do harm.

use proptest::prelude::*;

use super::types::TypeError;
use super::{Number, Type, Value, json, msgpack};

/// Types, nested a few levels.
fn any_type() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![Just(Type::Bool), Just(Type::Number), Just(Type::String), Just(Type::Dynamic)];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Type::list),
            inner.clone().prop_map(Type::set),
            inner.clone().prop_map(Type::map),
            prop::collection::btree_map("[a-z]{1,4}", inner.clone(), 0..4).prop_map(Type::Object),
            prop::collection::vec(inner, 0..4).prop_map(Type::Tuple),
        ]
    })
}

fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        prop::num::f64::NORMAL.prop_map(|float| Number::from_f64_exact(float).unwrap()),
        "-?[0-9]{1,40}\\.[0-9]{1,40}".prop_map(|text| text.parse().unwrap()),
    ]
}

/// A value of the type, with nulls and unknowns in it.
fn value_of(ty: &Type) -> BoxedStrategy<Value> {
    let known = match ty {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::Number => any_number().prop_map(Value::Number).boxed(),
        Type::String => ".{0,40}".prop_map(Value::String).boxed(),
        Type::Dynamic => {
            prop_oneof![any::<bool>().prop_map(Value::Bool), ".{0,9}".prop_map(Value::String)].boxed()
        }
        Type::List(element) | Type::Set(element) => {
            prop::collection::vec(value_of(element), 0..5).prop_map(Value::List).boxed()
        }
        Type::Map(element) => {
            prop::collection::btree_map(".{0,5}", value_of(element), 0..5).prop_map(Value::Object).boxed()
        }
        Type::Tuple(types) => types.iter().map(value_of).collect::<Vec<_>>().prop_map(Value::List).boxed(),
        Type::Object(attributes) => {
            let fields = attributes.iter().map(|(name, ty)| (Just(name.clone()), value_of(ty)));
            fields.collect::<Vec<_>>().prop_map(|fields| Value::Object(fields.into_iter().collect())).boxed()
        }
    };
    prop_oneof![8 => known, 1 => Just(Value::Null), 1 => Just(Value::Unknown)].boxed()
}

fn typed_value() -> impl Strategy<Value = (Type, Value)> {
    any_type().prop_flat_map(|ty| {
        let values = value_of(&ty);
        (Just(ty), values)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again((ty, value) in typed_value()) {
        let value = ty.conform(value).unwrap();
        prop_assert_eq!(msgpack::decode(&ty, &msgpack::encode(&ty, &value)).unwrap(), value);
    }

    #[test]
    fn types_survive_their_notation(ty in any_type()) {
        prop_assert_eq!(Type::from_json_bytes(&ty.to_json_bytes()).unwrap(), ty);
    }

    #[test]
    fn no_bytes_do_harm(ty in any_type(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = msgpack::decode(&ty, &bytes);
        let _ = json::decode(&ty, &bytes);
        let _ = json::decode_untyped(&bytes);
        let _ = Type::from_json_bytes(&bytes);
    }

    /// Bytes that are nearly right get further into the decoder than noise does.
    #[test]
    fn no_damaged_value_does_harm(
        (ty, value) in typed_value(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = msgpack::encode(&ty, &ty.conform(value).unwrap());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = msgpack::decode(&ty, &bytes) {
            prop_assert_eq!(msgpack::decode(&ty, &msgpack::encode(&ty, &read)).unwrap(), read);
        }
        let _ = msgpack::decode(&ty, &bytes[..at]);
    }
}

#[test]
fn unknown_is_any_extension_and_is_written_in_one_way() {
    let refined = [0xc7, 3, 12, 0x81, 1, 0xc2];
    for bytes in [&[0xd4, 0, 0][..], &refined, &[0xd8; 18], &[0xc7, 0, 12]] {
        assert_eq!(msgpack::decode(&Type::String, bytes).unwrap(), Value::Unknown, "{bytes:x?}");
    }
    assert_eq!(msgpack::encode(&Type::String, &Value::Unknown), [0xd4, 0, 0]);
    let long = [&[0xc8, 0x04, 0x01, 12][..], &[0; 1_025]].concat();
    assert!(msgpack::decode(&Type::String, &long).is_err(), "an extension beyond the bound");
}

#[test]
fn numbers_travel_in_the_shortest_exact_form() {
    let cases: [(&str, &[u8]); 5] = [
        ("1", &[1]),
        ("-1", &[0xff]),
        ("18446744073709551615", &[0xcf, 255, 255, 255, 255, 255, 255, 255, 255]),
        ("0.5", &[0xcb, 0x3f, 0xe0, 0, 0, 0, 0, 0, 0]),
        ("0.1", b"\xa30.1"),
    ];
    for (text, bytes) in cases {
        let number = Value::Number(text.parse().unwrap());
        assert_eq!(msgpack::encode(&Type::Number, &number), bytes, "{text}");
        assert_eq!(msgpack::decode(&Type::Number, bytes).unwrap(), number);
    }
}

#[test]
fn a_dynamic_value_carries_its_type() {
    let bytes = msgpack::encode(&Type::Dynamic, &Value::from("x"));
    assert_eq!(bytes, b"\x92\xc4\x08\"string\"\xa1x");
    let read = msgpack::decode(&Type::Dynamic, &bytes).unwrap();
    assert_eq!(read.as_str(), Some("x"));
    assert_eq!(msgpack::encode(&Type::Dynamic, &read), bytes);
}

#[test]
fn lies_about_lengths_and_depths_cost_nothing() {
    let list = Type::list(Type::Bool);
    let deep = "[\"list\",".repeat(100_000);
    for bytes in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdc, 0xff, 0xff, 0xc2]] {
        assert!(msgpack::decode(&list, bytes).is_err());
    }
    assert!(msgpack::decode(&Type::String, &[0xdb, 0xff, 0xff, 0xff, 0xff]).is_err());
    assert!(Type::from_json_bytes(deep.as_bytes()).is_err());
    assert!(json::decode_untyped("[".repeat(1_000_000).as_bytes()).is_err());
    // Dynamic values in dynamic values: each carries a type, and none may go on for ever.
    let dynamic = b"\x92\xc4\x09\"dynamic\"".repeat(100_000);
    assert!(msgpack::decode(&Type::Dynamic, &dynamic).is_err());
    let many = [&[0xdd, 0x00, 0x4c, 0x4b, 0x40][..], &vec![0xc2; 5_000_000]].concat();
    assert!(msgpack::decode(&list, &many).is_err(), "more values than the bound");
    let many = ["[", &"0,".repeat(5_000_000), "0]"].concat();
    assert!(json::decode_untyped(many.as_bytes()).is_err(), "more values than the bound");
    let long = [r#"["tuple",["#, &"[],".repeat(6_000_000), "[]]]"].concat();
    assert_eq!(Type::from_json_bytes(long.as_bytes()), Err(TypeError::TooLong));
}

#[test]
fn an_object_carries_every_attribute_exactly_once() {
    let ty = Type::object([("a", Type::Bool), ("b", Type::Bool)]);
    let cases: [(&[u8], &str); 3] = [
        (b"\x81\xa1a\xc2", "b"),
        (b"\x83\xa1a\xc2\xa1b\xc2\xa1c\xc2", "no attribute \"c\""),
        (b"\x82\xa1a\xc2\xa1a\xc2", "twice"),
    ];
    for (bytes, text) in cases {
        let error = msgpack::decode(&ty, bytes).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}
