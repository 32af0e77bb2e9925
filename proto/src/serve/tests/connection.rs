//! Who may connect, and how the process ends.

use std::time::Duration;

use tonic::Code;

use super::host::{Host, HostCertificate, Plugin};
use crate::rpc::wire::get_metadata;
use crate::rpc::wire::provider_client::ProviderClient;
use crate::serve::control::grpc_health::HealthCheckRequest;
use crate::serve::control::grpc_health::health_client::HealthClient;
use crate::serve::control::plugin::Empty;
use crate::serve::control::plugin::grpc_broker_client::GrpcBrokerClient;
use crate::serve::control::plugin::grpc_controller_client::GrpcControllerClient;

/// Whether a call gets through; in TLS 1.3 a refusal may show only at the first read.
async fn gets_through(plugin: &Plugin, host: Option<&HostCertificate>) -> bool {
    let Ok(channel) = plugin.connect_tls(host).await else { return false };
    ProviderClient::new(channel).get_metadata(get_metadata::Request {}).await.is_ok()
}

#[tokio::test]
async fn only_the_announced_certificate_gets_in() {
    let host = HostCertificate::new();
    let plugin = Plugin::start(Some(&host));
    assert!(gets_through(&plugin, Some(&host)).await, "the host itself is refused");
    assert!(!gets_through(&plugin, Some(&HostCertificate::new())).await, "another certificate");
    assert!(!gets_through(&plugin, None).await, "no certificate");
    assert!(!gets_through(&plugin, Some(&host.stolen())).await, "the certificate without its key");
    assert!(gets_through(&plugin, Some(&host)).await, "bad connections broke the server");
}

#[tokio::test]
async fn plaintext_does_not_get_into_tls() {
    let plugin = Plugin::start(Some(&HostCertificate::new()));
    let call = async {
        let channel = plugin.connect().await.ok()?;
        ProviderClient::new(channel).get_metadata(get_metadata::Request {}).await.ok()
    };
    assert!(call.await.is_none());
}

#[tokio::test]
async fn the_plugin_is_healthy_and_nothing_else_is() {
    let host = Host::start().await;
    let mut health = HealthClient::new(host.plugin.connect().await.unwrap());
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(health.check(check("plugin")).await.unwrap().into_inner().status, 1);
    assert_eq!(health.check(check("other")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_service_that_is_not_offered_is_unimplemented() {
    let host = Host::start().await;
    let mut broker = GrpcBrokerClient::new(host.plugin.connect().await.unwrap());
    let status = broker.start_stream(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn shutdown_replies_and_ends_within_the_hosts_two_seconds() {
    let host = Host::start().await;
    let mut controller = GrpcControllerClient::new(host.plugin.connect().await.unwrap());
    controller.shutdown(Empty {}).await.unwrap();
    let dir = host.plugin.path.parent().unwrap().to_owned();
    let ended = tokio::time::timeout(Duration::from_secs(2), host.plugin.serving).await;
    ended.expect("still serving").unwrap().unwrap();
    assert!(!dir.exists(), "the socket's directory is left behind");
}
