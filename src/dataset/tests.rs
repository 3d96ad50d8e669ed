//! What each reader makes of small files, of damaged ones, and of the public ones where they
//! are at hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::time::{DAY_MS, SECOND_MS};

fn file(name: &str, content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn open(format: Format, path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(format, path, &ColumnMapping::default())
}

fn rows(format: Format, path: &Path) -> Vec<Row> {
    open(format, path).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Rows as `event-id user item at-ms`, which is most of what there is to compare.
fn brief(rows: &[Row]) -> Vec<String> {
    let line =
        |row: &Row| format!("{} {} {} {}", row.event_id(), row.user, row.item, row.at.millis());
    rows.iter().map(line).collect()
}

fn complaint<T>(result: Result<T, DatasetError>) -> String {
    result.err().unwrap().to_string()
}

const EXPOSURES: &str = "\
user_id,video_id,date,hourmin,time_ms,is_click,is_like,play_time_ms,duration_ms,tab
7,100,20220425,1200,1650812741436,1,0,5000,60000,1
7,101,20220425,1200,1650812741440,0,0,0,30000,1
8,100,20220425,1201,1650812741400,0,1,900,0,4
";

#[test]
fn an_exposure_is_an_impression_then_a_click_then_a_watch() {
    let (_folder, path) = file("log_standard.csv", EXPOSURES);
    let rows = rows(Format::KuaiRand, &path);
    assert_eq!(
        brief(&rows),
        [
            "kuairand-1-i 7 100 1650812741436",
            "kuairand-1-c 7 100 1650812741436",
            "kuairand-1-w 7 100 1650812741436",
            "kuairand-2-i 7 101 1650812741440",
            "kuairand-3-i 8 100 1650812741400",
            "kuairand-3-w 8 100 1650812741400",
        ]
    );
    let whole = RowKind::Watch { watched_ms: 5_000, duration_ms: Some(60_000) };
    let unknown = RowKind::Watch { watched_ms: 900, duration_ms: None };
    assert_eq!((rows[2].kind, rows[5].kind), (whole, unknown));
    assert_eq!(rows[5].surface, Some(Surface::from("tab-4")));
}

#[test]
fn what_a_user_disliked_is_feedback_about_the_item() {
    let text = "user_id,video_id,time_ms,is_click,play_time_ms,duration_ms,tab,is_hate
7,100,1650812741436,0,900,60000,1,1
7,101,1650812741440,0,0,30000,1,0
";
    let (_folder, path) = file("log_standard.csv", text);
    let rows = rows(Format::KuaiRand, &path);
    let ids: Vec<String> = rows.iter().map(Row::event_id).collect();
    assert_eq!(ids, ["kuairand-1-i", "kuairand-1-w", "kuairand-1-n", "kuairand-2-i"]);
    let feedback = rows[2].feedback("s", 4).unwrap();
    assert_eq!((&*feedback.user, &*feedback.subject, &*feedback.session), ("7", "100", "s"));
    assert_eq!((feedback.at.millis(), &*feedback.surface), (1_650_812_741_440, "tab-1"));
    assert_eq!(rows[2].event("s", 4), None);
    assert!(rows[1].feedback("s", 4).is_none());
}

#[test]
fn rows_are_put_in_time_order_on_request_and_keep_their_ids() {
    let (_folder, path) = file("log_standard.csv", EXPOSURES);
    let sorted = open(Format::KuaiRand, &path).unwrap().by_time().unwrap();
    assert_eq!(sorted.total_rows(), Some(6));
    let sorted: Vec<Row> = sorted.collect::<Result<_, _>>().unwrap();
    let mut expected = rows(Format::KuaiRand, &path);
    expected.rotate_right(2);
    expected[..].sort_by_key(|row| row.at);
    assert_eq!(sorted, expected);
    assert_eq!(sorted[0].event_id(), "kuairand-3-i");
}

#[test]
fn the_logs_of_a_directory_are_read_in_the_order_of_their_names() {
    let (folder, _) = file("log_b.csv", EXPOSURES);
    fs::write(folder.path().join("log_a.csv"), EXPOSURES).unwrap();
    fs::write(folder.path().join("user_features.csv"), "x").unwrap();
    let rows = rows(Format::KuaiRand, folder.path());
    assert_eq!(rows.len(), 12);
    assert_eq!(rows[6].event_id(), "kuairand-4-i");
}

#[test]
fn the_three_layouts_of_ratings_give_the_same_watches_in_time_order() {
    let tabs = "1\t10\t5\t300\n2\t11\t3\t100\n1\t12\t1\t200\n";
    let colons = tabs.replace('\t', "::");
    let commas = format!("userId,movieId,rating,timestamp\n{}", tabs.replace('\t', ","));
    for (name, content, shift) in
        [("u.data", tabs.to_owned(), 0), ("ratings.dat", colons, 0), ("ratings.csv", commas, 1)]
    {
        let (folder, path) = file(name, content);
        let found = rows(Format::MovieLens, &path);
        let expected = [(2, "2 11 100000"), (3, "1 12 200000"), (1, "1 10 300000")];
        let expected = expected.map(|(row, rest)| format!("movielens-{}-w {rest}", row + shift));
        assert_eq!(brief(&found), expected, "{name}");
        let share = |watched_ms| RowKind::Watch { watched_ms, duration_ms: Some(FILM_MS) };
        let kinds: Vec<RowKind> = found.iter().map(|row| row.kind).collect();
        assert_eq!(kinds, [share(FILM_MS * 3 / 5), share(FILM_MS / 5), share(FILM_MS)]);
        assert_eq!(rows(Format::MovieLens, folder.path()), found);
        assert_eq!(open(Format::MovieLens, &path).unwrap().total_rows(), Some(3));
    }
}

#[test]
fn a_rating_that_cannot_be_is_an_error_with_its_place() {
    let (_folder, path) = file("u.data", "1\t10\t5\t300\n2\t11\t5.2\t100\n");
    let text = complaint(open(Format::MovieLens, &path));
    assert!(text.contains("u.data, row 2: column \"rating\" is \"5.2\""), "{text}");
    assert!(text.contains("0.5 to 5 stars"), "{text}");
    let (_folder, path) = file("u.data", "1\t10\t5\t300\n2\t11\t5\n");
    assert!(complaint(open(Format::MovieLens, &path)).contains("3 values, expected 4"));
    let (_folder, path) = file("u.data", "hello\n");
    assert!(complaint(open(Format::MovieLens, &path)).contains("neither tabs"));
}

#[test]
fn periods_are_read_by_number_with_a_week_between_them() {
    let (folder, _) = file("period_10.txt", "30 5\n");
    fs::write(folder.path().join("period_2.txt"), "9 4\r\n\n9\t6\n").unwrap();
    fs::write(folder.path().join("notes.txt"), "nothing").unwrap();
    let rows = rows(Format::Sessions, folder.path());
    let week = |period: i64| SESSIONS_EPOCH.millis() + 7 * DAY_MS * period;
    assert_eq!(
        brief(&rows),
        [
            format!("sessions-p2-1-c 9 4 {}", week(2)),
            format!("sessions-p2-3-c 9 6 {}", week(2) + SECOND_MS),
            format!("sessions-p10-1-c 30 5 {}", week(10)),
        ]
    );
    assert_eq!(rows[0].session.as_deref(), Some("9"));
    assert_eq!(rows.iter().map(|row| period_of(row.at)).collect::<Vec<_>>(), [2, 2, 10]);
}

#[test]
fn a_bad_line_is_an_error_and_the_lines_after_it_are_still_read() {
    let (_folder, path) = file("period_0.txt", "1 2\n3\n4 5\n");
    let results: Vec<_> = open(Format::Sessions, &path).unwrap().collect();
    assert_eq!(results.len(), 3);
    let error = results[1].as_ref().unwrap_err();
    assert!(error.is_one_row());
    assert!(error.to_string().contains("period_0.txt, row 2: 1 values, expected 2"), "{error}");
    assert_eq!(results[2].as_ref().unwrap().item, ItemId::from("5"));
}

const WATCHES: &str = "\
viewer,clip,when,secs,len,place,visit
ann,\"a,1\",1700000000.5,1500,3000,home,s1
bob,b2,1700000001,0,,,
";

fn mapped() -> ColumnMapping {
    let some = |name: &str| Some(name.to_owned());
    ColumnMapping {
        user: "viewer".to_owned(),
        item: "clip".to_owned(),
        time: "when".to_owned(),
        time_unit: TimeUnit::Seconds,
        watched: some("secs"),
        duration: some("len"),
        surface: some("place"),
        session: some("visit"),
        ..ColumnMapping::default()
    }
}

#[test]
fn columns_are_read_by_the_names_given() {
    let (_folder, path) = file("mine.csv", WATCHES);
    let dataset = Dataset::open(Format::Columns, &path, &mapped()).unwrap();
    let rows: Vec<Row> = dataset.collect::<Result<_, _>>().unwrap();
    let ann = Row {
        user: UserId::from("ann"),
        item: ItemId::from("a,1"),
        at: EventTime::from_millis(1_700_000_000_500),
        surface: Some(Surface::from("home")),
        session: Some("s1".to_owned()),
        kind: RowKind::Watch { watched_ms: 1_500, duration_ms: Some(3_000) },
        source: Arc::from("mine"),
        number: 1,
    };
    assert_eq!(rows[0], ann);
    assert_eq!(rows[1].kind, RowKind::Watch { watched_ms: 0, duration_ms: None });
    assert_eq!((&rows[1].surface, &rows[1].session), (&None, &None));
    assert_eq!(rows[1].event_id(), "mine-2-w");
    let clicks = ColumnMapping { kind: Some(EventKind::Click), ..mapped() };
    let first = Dataset::open(Format::Columns, &path, &clicks).unwrap().next().unwrap().unwrap();
    assert_eq!(first.kind, RowKind::Click);
}

#[test]
fn a_column_that_is_not_there_is_named_with_the_nearest_and_all_others() {
    let (_folder, path) = file("mine.csv", WATCHES);
    let mapping = ColumnMapping { user: "viewr".to_owned(), ..mapped() };
    let text = complaint(Dataset::open(Format::Columns, &path, &mapping));
    assert!(text.contains("has no column \"viewr\"; did you mean \"viewer\"?"), "{text}");
    assert!(text.contains("it has viewer, clip, when, secs, len, place, visit"), "{text}");
}

#[test]
fn a_bad_value_is_named_with_file_row_and_column_and_reading_goes_on() {
    let content = "user_id,item_id,timestamp\na,b,12\n,b,12\na,b,soon\na,b\na,b,13\n";
    let (_folder, path) = file("clicks.csv", content);
    let results: Vec<_> = open(Format::Columns, &path).unwrap().collect();
    let texts: Vec<String> =
        results.iter().filter_map(|r| r.as_ref().err()).map(ToString::to_string).collect();
    assert!(
        texts[0].ends_with(
            "row 2: column \"user_id\" is missing, expected an id: text or a whole number"
        ),
        "{texts:?}"
    );
    assert!(
        texts[1].contains(
            "clicks.csv, row 3: column \"timestamp\" is \"soon\", expected a time in milliseconds"
        ),
        "{texts:?}"
    );
    assert!(texts[2].contains("row 4: 2 values, expected 3"), "{texts:?}");
    assert_eq!((results.len(), texts.len()), (5, 3));
    assert!(results[4].is_ok());
}

#[test]
fn a_time_in_the_wrong_unit_is_refused() {
    let (_folder, path) = file("clicks.csv", "user_id,item_id,timestamp\na,b,1700000000000000\n");
    let read = |time_unit| {
        let mapping = ColumnMapping { time_unit, ..ColumnMapping::default() };
        Dataset::open(Format::Columns, &path, &mapping).unwrap().next().unwrap()
    };
    assert_eq!(read(TimeUnit::Micros).unwrap().at.millis(), 1_700_000_000_000);
    assert!(complaint(read(TimeUnit::Millis)).contains("1700000000000000"));
}

#[test]
fn a_quote_left_open_does_not_fill_memory() {
    let content = format!("user_id,item_id,timestamp\n\"{}\n", "x,".repeat(1_000_000));
    let (_folder, path) = file("open.csv", content);
    let results: Vec<_> = open(Format::Columns, &path).unwrap().collect();
    assert!(matches!(results[..], [Err(DatasetError::RowTooLong { row: 1, .. })]));
}

#[test]
fn a_byte_order_mark_and_tabs_are_read_through() {
    let (_folder, path) = file("clicks.tsv", "\u{feff}user_id\titem_id\ttimestamp\na\tb\t12\n");
    assert_eq!(brief(&rows(Format::Columns, &path)), ["clicks-1-c a b 12"]);
}

#[test]
fn asking_for_watches_without_their_length_is_refused() {
    let (_folder, path) = file("mine.csv", WATCHES);
    let mapping =
        ColumnMapping { watched: None, kind: Some(EventKind::Watch), ..ColumnMapping::default() };
    let text = complaint(Dataset::open(Format::Columns, &path, &mapping));
    assert!(text.starts_with("watches need the column"), "{text}");
}

#[test]
fn an_empty_directory_and_a_missing_file_say_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    for (format, name) in [
        (Format::KuaiRand, "impressions.parquet"),
        (Format::MovieLens, "u.data"),
        (Format::Sessions, "period_<n>.txt"),
        (Format::Columns, "*.csv"),
    ] {
        let text = complaint(open(format, folder.path()));
        assert!(text.contains("nothing to read") && text.contains(name), "{text}");
        let text = complaint(open(format, &folder.path().join("absent")));
        assert!(text.contains("cannot read") && text.contains("absent"), "{text}");
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
    }
    assert!(complaint("kuairnd".parse::<Format>()).contains("use one of kuairand, movielens"));
}

const SCHEMA: &str = "message rows {
    optional int64 user_id;
    required binary item_id (UTF8);
    optional int64 timestamp (TIMESTAMP(MICROS,true));
    optional double watched;
    optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
}";

/// Two row groups of `group` rows each; every seventh user is null.
fn parquet_file(group: i64) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties =
        Arc::new(WriterProperties::builder().set_data_page_row_count_limit(100).build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    for start in [0, group] {
        let ids: Vec<i64> = (start..start + group).collect();
        let there = |i: &i64| i16::from(i % 7 != 6);
        let mut rows = writer.next_row_group().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let users: Vec<i64> = ids.iter().copied().filter(|i| there(i) == 1).collect();
        let levels: Vec<i16> = ids.iter().map(there).collect();
        column.typed::<Int64Type>().write_batch(&users, Some(&levels), None).unwrap();
        column.close().unwrap();
        let full = vec![1i16; ids.len()];
        let mut column = rows.next_column().unwrap().unwrap();
        let items: Vec<ByteArray> =
            ids.iter().map(|i| ByteArray::from(format!("v{i}").into_bytes())).collect();
        column.typed::<ByteArrayType>().write_batch(&items, None, None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let times: Vec<i64> = ids.iter().map(|i| 1_000 * (1_000 + i)).collect();
        column.typed::<Int64Type>().write_batch(&times, Some(&full), None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let watched: Vec<f64> = ids.iter().map(|&i| i as f64).collect();
        column.typed::<DoubleType>().write_batch(&watched, Some(&full), None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let (none, zero) = (vec![0i16; ids.len()], vec![0i16; ids.len()]);
        column.typed::<ByteArrayType>().write_batch(&[], Some(&none), Some(&zero)).unwrap();
        column.close().unwrap();
        rows.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_nulls_pages_and_row_groups_keep_their_rows() {
    let (_folder, path) = file("mine.parquet", parquet_file(5_000));
    let mapping = ColumnMapping { watched: Some("watched".to_owned()), ..ColumnMapping::default() };
    let mut dataset = Dataset::open(Format::Columns, &path, &mapping).unwrap();
    assert_eq!(dataset.total_rows(), Some(10_000));
    let (mut good, mut bad) = (0, 0);
    for (i, result) in dataset.by_ref().enumerate() {
        if i % 7 == 6 {
            let text = complaint(result);
            assert!(text.contains(&format!("row {}: column \"user_id\" is missing", i + 1)));
            bad += 1;
        } else {
            let row = result.unwrap();
            assert_eq!(row.user.as_str(), i.to_string());
            assert_eq!(row.item.as_str(), format!("v{i}"));
            assert_eq!(row.at.millis(), 1_000 + i as i64);
            let watched_ms = i as u64;
            assert_eq!(row.kind, RowKind::Watch { watched_ms, duration_ms: None });
            good += 1;
        }
    }
    assert_eq!((good, bad, dataset.rows_read()), (8_572, 1_428, 10_000));
}

#[test]
fn a_nested_parquet_column_is_refused_by_name() {
    let (_folder, path) = file("mine.parquet", parquet_file(10));
    let mapping = ColumnMapping { session: Some("tags".to_owned()), ..ColumnMapping::default() };
    let text = complaint(Dataset::open(Format::Columns, &path, &mapping));
    assert!(text.contains("column \"tags\"") && text.contains("is nested"), "{text}");
}

/// Reads everything there is, whatever comes of it, and gives the number of results.
fn read_all(path: &Path) -> usize {
    let mapping = ColumnMapping { watched: Some("watched".to_owned()), ..ColumnMapping::default() };
    let formats = [Format::KuaiRand, Format::MovieLens, Format::Sessions, Format::Columns];
    let opened = formats.map(|format| Dataset::open(format, path, &mapping));
    opened.into_iter().flatten().map(Iterator::count).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (_folder, path) = file("any", &bytes);
        read_all(&path);
    }

    #[test]
    fn arbitrary_fields_never_panic(
        fields in proptest::collection::vec("[-0-9a-z.\",\\t:\\n ]{0,12}", 0..40)
    ) {
        let body = fields.join(",");
        for header in [EXPOSURES.lines().next().unwrap(), "user_id,item_id,timestamp,watched"] {
            let (_folder, path) = file("any.csv", format!("{header}\n{body}"));
            read_all(&path);
        }
    }

    #[test]
    fn a_damaged_parquet_file_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = parquet_file(200);
        for (index, byte) in changes {
            let place = index.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (_folder, path) = file("any.parquet", &bytes);
        read_all(&path);
    }
}

/// A public data set next to the checkout; none, and a line saying so, where it is absent.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

#[test]
fn the_public_kuairand_log_is_read_whole() {
    let Some(path) = shared("kuairand") else { return };
    let mut dataset = open(Format::KuaiRand, &path).unwrap();
    assert_eq!(dataset.total_rows(), Some(171_671));
    let mut counts = [0; 4];
    let mut last = EventTime::default();
    for row in dataset.by_ref() {
        let row = row.unwrap();
        assert!(row.at >= last);
        last = row.at;
        counts[match row.kind {
            RowKind::Impression => 0,
            RowKind::Click => 1,
            RowKind::Watch { .. } => 2,
            RowKind::NotInterested => 3,
        }] += 1;
    }
    assert_eq!(counts, [171_671, 76_099, 154_779, 144]);
    assert_eq!(dataset.rows_read(), 171_671);
}

#[test]
fn what_users_of_kuairand_did_before_and_who_they_are_is_read_whole() {
    let Some(path) = shared("kuairand") else { return };
    let (mut users, mut watched, mut first) = (0, 0, None);
    let each = |past: Past| {
        users += 1;
        watched += past.watched.len();
        first.get_or_insert(past);
    };
    pasts(&path, each).unwrap();
    let first = first.unwrap();
    assert_eq!((users, first.user.as_str(), first.last.millis()), (26_469, "0", 1_650_615_878_629));
    let items: Vec<&str> = first.watched.iter().map(|item| item.as_str()).collect();
    assert_eq!(items, ["7136", "7136", "909", "1527", "7405", "6026", "4270", "1694", "7531"]);
    assert_eq!(first.viewed_long, vec![ItemId::from("909")]);
    assert_eq!(watched / users, 30);
    let mut found = Vec::new();
    profiles(&path, |profile| found.push(profile)).unwrap();
    assert_eq!(found.len(), 27_285);
    assert!(found[0].values.contains(&("user_active_degree".into(), "full_active".into())));
    assert!(found[0].values.iter().all(|(column, _)| column != "fans_user_num"));
}

#[test]
fn a_folder_that_says_nothing_of_users_has_no_pasts_and_no_profiles() {
    let folder = tempfile::tempdir().unwrap();
    pasts(folder.path(), |past| panic!("{past:?}")).unwrap();
    profiles(folder.path(), |profile| panic!("{profile:?}")).unwrap();
    let (folder, _) = file("histories.parquet", b"PAR1 and no more");
    assert!(pasts(folder.path(), |_| ()).is_err());
}

#[test]
fn the_public_diginetica_sessions_are_read_whole() {
    let Some(path) = shared("diginetica") else { return };
    let rows = rows(Format::Sessions, &path);
    assert_eq!(rows.len(), 993_483);
    assert!(rows.is_sorted_by_key(|row| row.at));
    let mut sessions: Vec<&str> = rows.iter().map(|row| row.user.as_str()).collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 204_789);
    assert_eq!(period_of(rows[rows.len() - 1].at), 16);
}

#[test]
fn clicks_and_watches_become_events_and_impressions_do_not() {
    let row = |kind| Row {
        user: UserId::from("ada"),
        item: ItemId::from("v1"),
        at: EventTime::from_millis(1_000),
        surface: None,
        session: None,
        kind,
        source: Arc::from("test"),
        number: 7,
    };
    assert_eq!(row(RowKind::Impression).event("", 0), None);
    let click = row(RowKind::Click);
    let click = click.event("s", 500).unwrap();
    assert_eq!((click.at.millis(), &*click.id, &*click.session), (1_500, "test-7-c", "s"));
    let watch = row(RowKind::Watch { watched_ms: 9, duration_ms: None });
    let expected = event::EventKind::Watch { watched_ms: 9, duration_ms: 0 };
    assert_eq!(watch.event("", 0).unwrap().kind, expected);
}
