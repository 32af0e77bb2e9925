use tfplugin_derive::Model;

struct Attr<T>(T);

#[derive(Model)]
struct Thing {
    /// With a default.
    #[attr(required, default = "x")]
    name: Attr<String>,

    /// Computed, too.
    #[attr(required, computed)]
    size: Attr<i64>,

    /// Optional, too.
    #[attr(required, optional)]
    other: Attr<i64>,
}

fn main() {}
