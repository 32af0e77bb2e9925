use tfplugin_derive::Model;

struct Attr<T>(T);

#[derive(Model)]
struct Thing {
    /// Stored after all.
    #[attr(optional, computed, write_only)]
    secret: Attr<String>,

    /// With a default.
    #[attr(optional, write_only, default = "x")]
    other: Attr<String>,

    /// A change that nobody sees.
    #[attr(optional, write_only, requires_replace)]
    third: Attr<String>,
}

fn main() {}
