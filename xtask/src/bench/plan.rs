//! How long OpenTofu takes to plan 1, 100 and 1,000 images.

use anyhow::Result;

use super::contestant::{Contestant, Contestants};
use super::measure::{Row, medians, seconds};

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (count, times) in [(1, 5), (100, 3), (1000, 3)] {
        let plan = |contestant: &Contestant| {
            let workspace = contestants.workspace(contestant, &images(contestant.name, count))?;
            seconds(|| workspace.run(&["plan"]).map(drop))
        };
        let (ours, other) = medians(times, || plan(&contestants.ours), || plan(&contestants.peer))?;
        rows.push(Row { name: format!("plan of {count}, against Go"), ours, other, unit: "s", aim: "" });
    }
    Ok(rows)
}

/// So many images, as a user would write them.
pub(crate) fn images(provider: &str, count: usize) -> String {
    format!(
        r##"
resource "{provider}_image" "many" {{
  count       = {count}
  name_prefix = "bench-${{count.index}}"
  description = "One of many"
  tags        = {{ team = "bench", index = "${{count.index}}" }}
  qemu = {{
    base         = {{ bootstrap = {{ suite = "bookworm", packages = ["git", "curl"] }} }}
    disk_size_gb = 10
  }}
  environment = {{ INDEX = "${{count.index}}" }}
  provision = [
    {{ inline = ["apt-get install -y docker.io", "systemctl enable docker"] }},
    {{ content = "#!/bin/sh\necho ${{count.index}} > /etc/index\n", timeout = "20m" }},
  ]
  verify = [{{ name = "docker", command = "docker info" }}]
}}
"##
    )
}
