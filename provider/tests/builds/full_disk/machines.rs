//! What is written of a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use acceptance_tests::only_root;
use chrono::Utc;
use sindri::backends::qemu::Arch;
use sindri::backends::qemu::vm::QemuVmSpec;
use sindri::domain::vm_spec::{PowerState, SshAccess, VmSpec, WaitFor};
use sindri::domain::{VmBackend, VmLauncher, VmRequest};
use tokio_util::sync::CancellationToken;

use super::images::put;
use super::{House, list, what};
use crate::support::small_disk::Points;

fn machine(image_id: String) -> VmRequest {
    let (public_key, private_key_path, host, port) = (None, None, None, None);
    VmRequest {
        spec: VmSpec {
            name: "dev".into(),
            power_state: PowerState::Running,
            user_data: None,
            user_data_is_secret: false,
            ssh: SshAccess { username: "ann".into(), public_key, private_key_path, host, port },
            wait_for: WaitFor::None,
            tags: BTreeMap::new(),
        },
        image_id,
        inputs: serde_json::json!({}),
        managed_tags: BTreeSet::new(),
        deadline: Utc::now() + chrono::TimeDelta::hours(1),
        stop: CancellationToken::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let house = House::new();
    house.disk.relieve();
    let request = machine(put(&house.local.store).unwrap());
    let arch = Arch::host().unwrap();
    let shape = QemuVmSpec { arch, cpus: 1, memory_mb: 256, disk_size_gb: None, ports: BTreeMap::new() };
    let (launcher, cancel) = (house.local.launcher(shape), CancellationToken::new());
    let mut points = Points::new();
    for by_files in [false, true] {
        let mut told = BTreeSet::new();
        loop {
            let point = if by_files { points.files(&house.disk) } else { points.space(&house.disk) };
            let mut in_state = None;
            let made = launcher.create(&request, &mut |vm| in_state = Some(vm.id.clone()), &cancel).await;
            let vms = || {
                let mut found = Vec::new();
                list(&house.local.store.vms(), &mut found);
                found
            };
            match made {
                Ok(vm) => in_state = Some(vm.id),
                Err(error) => {
                    let text = house.assert_told(&point, &error);
                    told.insert(what(&text));
                    if in_state.is_none() {
                        assert_eq!(vms(), Vec::<PathBuf>::new(), "{point}: no state knows of it");
                    }
                }
            }
            let is_made = runs(&house, in_state.as_deref()).await;
            // What is in state goes by a destroy, for which a full disk has room.
            if let Some(id) = &in_state {
                VmBackend::destroy(&*house.local, id, &cancel).await.unwrap();
            }
            assert_eq!(vms(), Vec::<PathBuf>::new(), "{point}");
            if is_made {
                break;
            }
        }
        println!("{told:#?}");
        assert!(told.len() >= 3 + 2 * usize::from(by_files), "{told:#?}");
    }
    house.disk.relieve();
    let image = &request.image_id;
    house.local.store.release(image, house.local.store.holders(image).unwrap().first(), false).unwrap();
    house.assert_nothing_left("all is destroyed");
}

/// Whether the machine runs.
async fn runs(house: &House, id: Option<&str>) -> bool {
    let Some(id) = id else { return false };
    VmBackend::get(&*house.local, id).await.is_ok_and(|vm| vm.status == PowerState::Running)
}
