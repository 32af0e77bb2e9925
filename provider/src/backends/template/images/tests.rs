use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::domain::Keeper;
use crate::process::Runner;

/// Looks after what a cloud has, which is in an account that credentials may or may not be of.
#[derive(Debug, Default)]
struct Cloud {
    has: Mutex<BTreeSet<String>>,
    is_other_account: Mutex<bool>,
}

#[async_trait]
impl Keeper for Cloud {
    fn keeps(&self, made: &Made) -> bool {
        made.builder_id == "cloud"
    }

    async fn look(&self, made: &Made) -> Result<Option<Seen>, BackendError> {
        let is_seen = !*self.is_other_account.lock().unwrap() && self.has.lock().unwrap().contains(&made.id);
        Ok(is_seen.then(Seen::default))
    }

    async fn delete(&self, made: &Made, _: &CancellationToken) -> Result<Vec<String>, BackendError> {
        self.has.lock().unwrap().remove(&made.id);
        Ok(Vec::new())
    }
}

/// An image in a cloud, and the record of it with two claims.
struct Case {
    dir: tempfile::TempDir,
    cloud: Arc<Cloud>,
    templates: Arc<Templates>,
    record: Record,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cloud = Arc::new(Cloud::default());
        cloud.has.lock().unwrap().insert("ami-1".into());
        let templates = process(dir.path(), &cloud);
        let record = Record {
            id: Uuid::new_v4(),
            name: "web-1".into(),
            key: CacheKey::try_from("a".repeat(63)).unwrap(),
            made: vec![Made { managed: true, ..made("cloud", "ami-1") }],
            created_at: Utc::now(),
            build_seconds: 1,
            log_path: "/l".into(),
            holders: [Holder::random(), Holder::random()].into(),
            inputs: json!({}),
        };
        templates.records().put(&record).unwrap();
        Self { dir, cloud, templates, record }
    }

    fn id(&self) -> String {
        self.record.id.to_string()
    }

    fn known(&self) -> Known {
        let Record { name, made, .. } = self.record.clone();
        let (is_own, are_files_elsewhere) = (true, false);
        Known { id: self.id(), name, made, created_at: None, is_own, are_files_elsewhere }
    }

    /// As a resource sees them that has built the image, or taken it as it was.
    fn images(&self, is_own: bool) -> TemplateImages {
        self.templates.images(Some(Known { is_own, ..self.known() }))
    }

    async fn release(&self, holder: Option<&Holder>, is_own: bool) -> Released {
        let never = CancellationToken::new();
        self.images(is_own).release(&self.id(), holder, false, &Copies::new(), &never).await.unwrap()
    }

    fn is_there(&self) -> bool {
        self.cloud.has.lock().unwrap().contains("ami-1")
    }
}

/// What a process has of the images in a folder.
fn process(dir: &std::path::Path, cloud: &Arc<Cloud>) -> Arc<Templates> {
    Arc::new(Templates {
        data_dir: dir.to_owned(),
        cache_dir: dir.join("cache"),
        runner: Runner::this_binary().unwrap(),
        packer: crate::packer::Settings::default(),
        claims: Default::default(),
        keepers: vec![Arc::clone(cloud) as Arc<dyn Keeper>],
    })
}

fn made(builder_id: &str, id: &str) -> Made {
    Made { builder_id: builder_id.into(), id: id.into(), ..Made::default() }
}

#[tokio::test]
async fn a_refresh_that_sees_nothing_leaves_the_claims_of_others() {
    let case = Case::new();
    *case.cloud.is_other_account.lock().unwrap() = true;
    assert!(case.images(true).get(&case.id()).await.unwrap_err().is_not_found());
    assert_eq!(case.images(true).list().await.unwrap(), []);
    *case.cloud.is_other_account.lock().unwrap() = false;
    let holders: Vec<&Holder> = case.record.holders.iter().collect();
    assert_eq!(case.release(Some(holders[0]), true).await, Released::Held { others: 1 });
    assert!(case.is_there());
    assert_eq!(case.release(Some(holders[1]), false).await, Released::Deleted { left: Vec::new() });
    assert!(!case.is_there() && case.templates.records().all().unwrap().is_empty());
}

#[tokio::test]
async fn a_claim_stays_when_its_process_ends_only_if_state_knows_it() {
    for (known, others) in [(false, 0), (true, 1)] {
        let (case, ours, never) = (Case::new(), Holder::random(), CancellationToken::new());
        let killed = process(case.dir.path(), &case.cloud);
        killed.images(None).hold(&case.id(), &ours, Utc::now(), &never).await.unwrap();
        let holders = async || case.images(false).holders(&case.id()).await.unwrap().len();
        assert_eq!(holders().await, 3, "while it lives");
        if known {
            killed.images(None).confirm_claim(&case.id(), &ours).await.unwrap();
        }
        case.images(false).confirm_claim(&case.id(), &ours).await.unwrap();
        drop(killed);
        // A process that another test starts in this moment has the lock, too, until it is another program.
        let late = std::time::Instant::now() + Duration::from_secs(5);
        while holders().await != 2 + others && std::time::Instant::now() < late {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let before: Vec<&Holder> = case.record.holders.iter().collect();
        assert_eq!(case.release(Some(before[0]), false).await, Released::Held { others: 1 + others });
        let last = if known { Released::Held { others } } else { Released::Deleted { left: Vec::new() } };
        assert_eq!(case.release(Some(before[1]), false).await, last, "known: {known}");
        let left = std::fs::read_dir(case.dir.path().join("templates")).unwrap().flatten();
        let claims = left.filter(|entry| entry.file_name().to_string_lossy().ends_with(".claims"));
        assert_eq!(claims.count(), 0, "known: {known}");
    }
}

#[tokio::test]
async fn without_a_record_only_whoever_built_an_image_deletes_it() {
    let case = Case::new();
    let holder = case.record.holders.first();
    case.templates.records().remove(case.record.id).unwrap();
    let left = Released::LetGo { what: vec!["ami-1 (cloud)".into()] };
    assert_eq!(case.release(holder, false).await, left);
    assert!(case.is_there());
    assert_eq!(case.release(holder, true).await, Released::Deleted { left: Vec::new() });
    assert!(!case.is_there());
    assert_eq!(case.release(holder, false).await, Released::LetGo { what: Vec::new() });
}

#[tokio::test]
async fn files_on_another_computer_are_neither_missed_nor_deleted_here() {
    let case = Case::new();
    case.templates.records().remove(case.record.id).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| Made {
        files: vec![dir.path().join(name)],
        managed: true,
        ..made("packer.file", "File")
    };
    // Another build of the same template has made one of that name here.
    std::fs::write(dir.path().join("same"), "").unwrap();
    let all = [case.record.made.clone(), vec![of("same"), of("gone")]].concat();
    let known = Known { made: all.clone(), are_files_elsewhere: true, ..case.known() };
    let images = case.templates.images(Some(known));
    assert_eq!(images.get(&case.id()).await.unwrap().made, all);
    let never = CancellationToken::new();
    let released = images.release(&case.id(), None, false, &Copies::new(), &never).await.unwrap();
    let Released::Deleted { left } = released else { panic!("{released:?}") };
    assert!(left.len() == 2 && left.iter().all(|it| it.contains("another computer")), "{left:?}");
    assert!(!case.is_there() && dir.path().join("same").exists());
}
