use tfplugin_derive::Model;

struct Attr<T>(T);

#[derive(Model)]
enum Choice {
    One,
}

#[derive(Model)]
struct Unnamed(Attr<String>);

#[derive(Model)]
struct Generic<T> {
    /// A value.
    #[attr(optional)]
    value: Attr<T>,
}

fn main() {}
