use tfplugin_derive::Model;

struct Attr<T>(T);

#[derive(Model)]
struct Thing {
    /// Its name.
    name: Attr<String>,

    /// Its size.
    #[attr(sensitive)]
    size: Attr<i64>,
}

fn main() {}
