use tfplugin_derive::Model;

struct Attr<T>(T);

#[derive(Model)]
struct Thing {
    #[attr(optional)]
    undocumented: Attr<String>,

    /// Not in an `Attr`.
    #[attr(optional)]
    plain: String,

    /// A word that does not exist.
    #[attr(optional, secret)]
    odd: Attr<String>,

    /// A name that hosts refuse.
    #[attr(optional, rename = "Big-Name")]
    renamed: Attr<String>,
}

fn main() {}
