//! Items of files.

use std::io::Write as _;

use super::*;

fn read(name: &str, text: &str, columns: ItemColumns) -> Vec<ItemRow> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    let mut items = Items::open(&path, None, columns).unwrap();
    std::iter::from_fn(|| items.read().unwrap()).collect()
}

fn one(row: &str) -> CatalogItem {
    read("items.jsonl", row, ItemColumns::default()).remove(0).unwrap()
}

#[test]
fn what_is_written_as_the_schema_says_reads_back() {
    let record = CatalogRecord {
        item: "v1".into(),
        title: "A \"title\", with commas".into(),
        creator: "c1".into(),
        categories: vec!["a, b".into(), "c".into()],
        duration_ms: 61_000,
        published: Some(1_715_904_000_123),
        available_countries: vec!["CH".into()],
        blocked: true,
        attributes: [("licence".to_owned(), "cc".to_owned())].into(),
        ..CatalogRecord::default()
    };
    let line = serde_json::to_string(&record).unwrap();
    assert_eq!(one(&line), record.validate().unwrap());
}

#[test]
fn times_are_numbers_or_iso_8601() {
    for (written, ms) in [
        ("1715904000123", 1_715_904_000_123),
        ("\"1715904000123\"", 1_715_904_000_123),
        ("\"2024-05-17\"", 1_715_904_000_000),
        ("\"2024-05-17T00:00:00\"", 1_715_904_000_000),
        ("\"2024-05-17 00:00:00.123\"", 1_715_904_000_123),
        ("\"2024-05-17T02:00:00.123456+02:00\"", 1_715_904_000_123),
    ] {
        let item = one(&format!("{{\"item\": 7, \"published\": {written}}}"));
        assert_eq!(item.published.map(|at| at.millis()), Some(ms), "{written}");
        assert_eq!(item.item.as_str(), "7");
    }
    let bad = read("a.jsonl", r#"{"item":"v","published":"May"}"#, ItemColumns::default());
    let refused = bad[0].clone().unwrap_err();
    assert_eq!((refused.row, refused.item.as_deref()), (1, Some("v")));
    assert!(refused.reason.contains("\"May\"") && refused.reason.contains("2024-05-17"));
}

#[test]
fn columns_are_those_that_are_named_and_those_of_the_schema() {
    let named = [("item", "id".to_owned()), ("tags", "words".to_owned())];
    let columns = ItemColumns {
        named: named.into(),
        separator: "|".into(),
        time_unit: TimeUnit::Seconds,
        ..ItemColumns::default()
    };
    let text = "id,words,creator,published,other\nv1,\"a, b| c|\",me,1715904000,x\nv2,,,,\n";
    let rows = read("items.csv", text, columns);
    let first = rows[0].clone().unwrap();
    assert_eq!((first.tags, &*first.creator), (vec!["a, b".into(), "c".into()], "me"));
    assert_eq!(first.published.map(|at| at.millis()), Some(1_715_904_000_000));
    assert_eq!(rows[1], Ok(CatalogItem::new(crate::ids::ItemId::from("v2"))));
}

#[test]
fn attributes_are_columns_of_their_own_in_csv() {
    let text = "item,attributes.licence,attributes.age,attributesx\nv1,cc,16,no\nv2,,18,no\n";
    let rows = read("items.csv", text, ItemColumns::default());
    let of = |row: usize| rows[row].clone().unwrap().attributes;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(of(0), [pair("licence", "cc"), pair("age", "16")].into());
    assert_eq!(of(1), [pair("age", "18")].into());
}

const SCHEMA: &str = "message items {
    required binary item (UTF8);
    optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
    repeated binary languages (UTF8);
    optional group attributes (MAP) {
        repeated group key_value {
            required binary key (UTF8);
            optional binary value (UTF8);
        }
    }
    optional group more { optional binary licence (UTF8); optional int64 age; }
}";

/// Values of a column with their definition and repetition levels.
type Texts<'a> = (&'a [&'a str], &'a [i16], &'a [i16]);

/// Writes items of [`SCHEMA`].
fn nested(texts: [Texts<'_>; 6], age: (&[i64], &[i16])) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    let schema = parquet::schema::parser::parse_message_type(SCHEMA).unwrap();
    let mut bytes = Vec::new();
    let (schema, properties) = (schema.into(), Default::default());
    let mut writer =
        parquet::file::writer::SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    for (values, levels, repeats) in texts {
        let values: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
        let mut column = rows.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        // A column of what is required has no levels.
        let levels = Some(levels).filter(|levels| !levels.is_empty());
        let repeats = Some(repeats).filter(|repeats| !repeats.is_empty());
        typed.write_batch(&values, levels, repeats).unwrap();
        column.close().unwrap();
    }
    let mut column = rows.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(age.0, Some(age.1), None).unwrap();
    column.close().unwrap();
    rows.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn lists_maps_and_structs_of_parquet_are_read() {
    // Three items: with all, with nothing, and with an empty list and a null in a map.
    let bytes = nested(
        [
            (&["v1", "v2", "v3"], &[], &[]),
            (&["a", "b, c"], &[3, 3, 0, 1], &[0, 1, 0, 0]),
            (&["de", "fr", "it"], &[1, 1, 0, 1], &[0, 1, 0, 0]),
            (&["k1", "k2", "k3"], &[2, 2, 0, 2], &[0, 1, 0, 0]),
            (&["x", "y"], &[3, 3, 0, 2], &[0, 1, 0, 0]),
            (&["cc"], &[2, 0, 1], &[]),
        ],
        (&[16, 18], &[2, 0, 2]),
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.parquet");
    std::fs::write(&path, bytes).unwrap();
    let all = |columns: ItemColumns| -> Vec<CatalogItem> {
        let mut items = Items::open(&path, None, columns).unwrap();
        std::iter::from_fn(|| items.read().unwrap()).map(Result::unwrap).collect()
    };
    let found = all(ItemColumns::default());
    let tags: Vec<String> = found.iter().map(|item| item.tags.join("/")).collect();
    assert_eq!(tags, ["a/b, c", "", ""]);
    let languages: Vec<usize> = found.iter().map(|item| item.languages.len()).collect();
    assert_eq!(languages, [2, 0, 1]);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(found[0].attributes, [pair("k1", "x"), pair("k2", "y")].into());
    assert!(found[1].attributes.is_empty() && found[2].attributes.is_empty());
    let named = [("attributes", "more".to_owned())].into();
    let of_struct = all(ItemColumns { named, ..ItemColumns::default() });
    assert_eq!(of_struct[0].attributes, [pair("licence", "cc"), pair("age", "16")].into());
    assert_eq!(of_struct[2].attributes, [pair("age", "18")].into());
    let named = [("title", "tags".to_owned())].into();
    let mut items = Items::open(&path, None, ItemColumns { named, ..ItemColumns::default() });
    let row = items.as_mut().unwrap().read().unwrap().unwrap();
    assert!(row.unwrap_err().reason.contains("expected a text"));
}

#[test]
fn a_row_of_another_shape_costs_only_itself() {
    let rows = read("items.csv", "item,title\nv1\nv2,Two\n", ItemColumns::default());
    assert_eq!(rows[0].clone().unwrap_err().row, 1);
    assert_eq!(rows[1].clone().unwrap().title, "Two");
}
