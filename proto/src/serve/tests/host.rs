//! What a host does: connects, sends values, merges configuration and state into a proposal.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::provider::{TestProvider, Thing};
use crate::model::Model;
use crate::rpc::Server;
use crate::rpc::wire::provider_client::ProviderClient;
use crate::rpc::wire::{self, DynamicValue};
use crate::schema::{Attribute, AttributeType, Nesting, Schema};
use crate::serve::services::MAX_MESSAGE;
use crate::serve::socket::{Socket, SocketOptions};
use crate::serve::{ServeError, answer, incoming::Incoming, tls};
use crate::value::{Type, Value, msgpack};

/// A certificate as hosts make them: P-521, and an authority.
pub(super) struct HostCertificate {
    pub(super) pem: String,
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl HostCertificate {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        Self::with_key(&key)
    }

    pub(super) fn with_key(key: &KeyPair) -> Self {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(key).unwrap();
        let base64 = base64::engine::general_purpose::STANDARD.encode(certificate.der());
        let lines: Vec<_> =
            base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        Self { pem, der: certificate.der().clone(), key: key.serialize_der() }
    }

    /// The same certificate in the hands of one who has another key.
    pub(super) fn stolen(&self) -> Self {
        Self { pem: self.pem.clone(), der: self.der.clone(), key: Self::new().key }
    }
}

/// A running server.
pub(super) struct Plugin {
    pub(super) path: PathBuf,
    pub(super) certificate: Option<CertificateDer<'static>>,
    pub(super) serving: tokio::task::JoinHandle<Result<(), ServeError>>,
}

impl Plugin {
    /// Serves the test provider; with TLS if there is a host's certificate.
    pub(super) fn start(host: Option<&HostCertificate>) -> Self {
        let socket = Socket::bind(&SocketOptions::default()).unwrap();
        let path = socket.path().to_owned();
        let tls = host.map(|host| tls::Identity::new(&host.pem).unwrap());
        let certificate = tls.as_ref().map(|tls| CertificateDer::from(tls.certificate().to_vec()));
        let incoming = Incoming::new(socket, tls.map(tls::Identity::into_acceptor)).unwrap();
        let server = Arc::new(Server::new(Arc::new(TestProvider)));
        let serving = tokio::spawn(async move { answer(&server, incoming, false).await });
        Self { path, certificate, serving }
    }

    pub(super) async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let path = self.path.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connector).await
    }

    /// Connects with the given certificate, or with none.
    pub(super) async fn connect_tls(
        &self,
        host: Option<&HostCertificate>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone().unwrap()).unwrap();
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let mut config = match host {
            None => config.with_no_client_auth(),
            Some(host) => {
                // Signs with whatever key there is; the usual constructor would notice that it does not fit.
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(host.key.clone()));
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
                let certified = rustls::sign::CertifiedKey::new(vec![host.der.clone()], key);
                config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (path, tls) = (self.path.clone(), TlsConnector::from(Arc::new(config)));
        let connector = tower::service_fn(move |_| {
            let (path, tls) = (path.clone(), tls.clone());
            async move {
                let stream = UnixStream::connect(path).await?;
                tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connector).await
    }
}

/// A server and a client of it.
pub(super) struct Host {
    pub(super) client: ProviderClient<Channel>,
    pub(super) plugin: Plugin,
    pub(super) ty: Type,
}

pub(super) const THING: &str = "test_thing";

impl Host {
    pub(super) async fn start() -> Self {
        let plugin = Plugin::start(None);
        let channel = plugin.connect().await.unwrap();
        let client = ProviderClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Self { client, plugin, ty: Schema::of::<Thing>(2).ty().clone() }
    }

    /// A whole object: what is not given is null.
    pub(super) fn thing(&self, given: Value) -> Value {
        self.ty.conform(given).unwrap()
    }

    pub(super) fn wire(&self, value: &Value) -> Option<DynamicValue> {
        Some(DynamicValue { msgpack: msgpack::encode(&self.ty, value).into(), ..DynamicValue::default() })
    }

    pub(super) fn read(&self, value: Option<DynamicValue>) -> Value {
        value.map_or(Value::Null, |value| msgpack::decode(&self.ty, &value.msgpack).unwrap())
    }

    /// Plans as hosts do: `Value::Null` as `config` is a destruction.
    pub(super) async fn plan(
        &mut self,
        prior: &Value,
        config: &Value,
    ) -> wire::plan_resource_change::Response {
        let proposed = propose(&Thing::attributes(), prior, config);
        let request = wire::plan_resource_change::Request {
            type_name: THING.to_owned(),
            prior_state: self.wire(prior),
            proposed_new_state: self.wire(&proposed),
            config: self.wire(config),
            prior_private: b"prior".to_vec(),
            ..Default::default()
        };
        self.client.plan_resource_change(request).await.unwrap().into_inner()
    }

    pub(super) async fn apply(
        &mut self,
        prior: &Value,
        planned: &Value,
        config: &Value,
    ) -> wire::apply_resource_change::Response {
        let request = self.apply_request(prior, planned, config);
        self.client.apply_resource_change(request).await.unwrap().into_inner()
    }

    pub(super) fn apply_request(
        &self,
        prior: &Value,
        planned: &Value,
        config: &Value,
    ) -> wire::apply_resource_change::Request {
        wire::apply_resource_change::Request {
            type_name: THING.to_owned(),
            prior_state: self.wire(prior),
            planned_state: self.wire(planned),
            config: self.wire(config),
            planned_private: b"planned".to_vec(),
            ..Default::default()
        }
    }

    /// Plans and applies a creation; the state that comes of it.
    pub(super) async fn create(&mut self, config: &Value) -> Value {
        let plan = self.plan(&Value::Null, config).await;
        assert_eq!(texts(&plan.diagnostics), [""; 0]);
        let planned = self.read(plan.planned_state);
        let applied = self.apply(&Value::Null, &planned, config).await;
        assert_eq!(texts(&applied.diagnostics), [""; 0]);
        self.read(applied.new_state)
    }
}

/// The hosts' merge: what is configured, and what is stored where a computed attribute is left null.
pub(super) fn propose(attributes: &[Attribute], prior: &Value, config: &Value) -> Value {
    if config.is_null() {
        return Value::Null;
    }
    let merged = attributes.iter().map(|attribute| {
        let prior = prior.get(attribute.name).cloned().unwrap_or_default();
        let config = config.get(attribute.name).cloned().unwrap_or_default();
        let value = match (&attribute.ty, config) {
            (_, Value::Null) if attribute.kind.is_computed() => prior,
            (AttributeType::Nested { nesting: Nesting::List, attributes }, Value::List(elements)) => {
                let prior =
                    |position| prior.as_list().and_then(|list| list.get(position)).unwrap_or(&Value::Null);
                let merge = |(position, config)| propose(attributes, prior(position), config);
                Value::List(elements.iter().enumerate().map(merge).collect())
            }
            (AttributeType::Nested { nesting: Nesting::Single, attributes }, config @ Value::Object(_)) => {
                propose(attributes, &prior, &config)
            }
            (_, config) => config,
        };
        (attribute.name.to_owned(), value)
    });
    Value::Object(merged.collect())
}

/// Diagnostics as `path: summary: detail`.
pub(super) fn texts(diags: &[wire::Diagnostic]) -> Vec<String> {
    use wire::attribute_path::step::Selector;
    let text = |diagnostic: &wire::Diagnostic| {
        let mut path = crate::path::Path::root();
        for step in diagnostic.attribute.iter().flat_map(|path| &path.steps) {
            path = match step.selector.clone().unwrap() {
                Selector::AttributeName(name) => path.attr(name),
                Selector::ElementKeyString(key) => path.key(key),
                Selector::ElementKeyInt(index) => path.index(usize::try_from(index).unwrap()),
            };
        }
        format!("{path}: {}: {}", diagnostic.summary, diagnostic.detail)
    };
    diags.iter().map(text).collect()
}
