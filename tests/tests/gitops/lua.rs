//! Runs a script as Argo CD does (its `util/lua`).

use mlua::{Lua, LuaOptions, StdLib, Table, Value as LuaValue};
use serde_json::{Map, Value};

/// What the script makes of the object. Each run has a state of its own with the libraries that Argo CD gives: the base,
/// `table`, and of `os` what tells the time, which a script has to ask for by `require`.
pub fn run(script: &str, object: &Value) -> Value {
    let lua = Lua::new_with(StdLib::TABLE | StdLib::OS, LuaOptions::default()).unwrap();
    let globals = lua.globals();
    let os: Table = globals.get("os").unwrap();
    let safe = lua.create_table().unwrap();
    for name in ["time", "date"] {
        safe.set(name, os.get::<LuaValue>(name).unwrap()).unwrap();
    }
    globals.set("os", LuaValue::Nil).unwrap();
    let require = lua.create_function(move |_, name: String| Ok((name == "os").then(|| safe.clone())));
    globals.set("require", require.unwrap()).unwrap();
    globals.set("obj", to_lua(&lua, object)).unwrap();
    from_lua(lua.load(script).call(()).unwrap())
}

/// As Argo CD's `decodeValue`: null is nil, every number a float, and a list has no holes.
fn to_lua(lua: &Lua, value: &Value) -> LuaValue {
    match value {
        Value::Null => LuaValue::Nil,
        Value::Bool(value) => LuaValue::Boolean(*value),
        Value::Number(number) => LuaValue::Number(number.as_f64().unwrap()),
        Value::String(text) => LuaValue::String(lua.create_string(text).unwrap()),
        Value::Array(items) => {
            let items = items.iter().filter(|item| !item.is_null());
            let items: Vec<LuaValue> = items.map(|item| to_lua(lua, item)).collect();
            LuaValue::Table(lua.create_sequence_from(items).unwrap())
        }
        Value::Object(members) => {
            let members = members.iter().map(|(key, member)| (key.clone(), to_lua(lua, member)));
            let members: Vec<(String, LuaValue)> = members.collect();
            LuaValue::Table(lua.create_table_from(members).unwrap())
        }
    }
}

/// As the encoder that Argo CD uses: a table is a list if its first key is a number, or if it is empty.
fn from_lua(value: LuaValue) -> Value {
    match value {
        LuaValue::Nil => Value::Null,
        LuaValue::Boolean(value) => value.into(),
        LuaValue::Integer(number) => number.into(),
        // The parser of the answer reads what has no fraction as a whole number.
        LuaValue::Number(number) => serde_json::from_str(&number.to_string()).unwrap(),
        LuaValue::String(text) => text.to_string_lossy().into(),
        LuaValue::Table(table) if table.raw_len() > 0 || table.is_empty() => {
            table.sequence_values().map(|item| from_lua(item.unwrap())).collect()
        }
        LuaValue::Table(table) => {
            let members = table.pairs::<String, LuaValue>().map(|pair| pair.unwrap());
            Value::Object(members.map(|(key, member)| (key, from_lua(member))).collect::<Map<_, _>>())
        }
        other => panic!("{other:?} is nothing that Argo CD can read"),
    }
}
