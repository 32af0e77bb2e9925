use tfplugin_derive::Model;

struct Attr<T>(T);

#[derive(Model)]
struct Thing {
    /// A default that nobody can leave out.
    #[attr(computed, default = 1)]
    size: Attr<i64>,

    /// Checked, though nobody writes it.
    #[attr(computed, validate = check)]
    name: Attr<String>,

    /// Kept, though never computed.
    #[attr(optional, keep_prior)]
    kept: Attr<String>,
}

fn main() {}
