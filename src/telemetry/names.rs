//! Every metric: name, unit, meaning. Base units; labels never name a user or an item.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

macro_rules! metrics_table {
    ($($kind:ident $constant:ident = $name:literal, $unit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// Every metric as (name, help), for the documentation.
        pub const ALL: &[(&str, &str)] = &[$(($name, $help)),*];

        pub(super) fn describe() {
            $($kind!($name, Unit::$unit, $help);)*
        }
    };
}

metrics_table! {
    describe_counter EVENTS_FOLDED = "driftline_events_folded_total", Count,
        "Events folded, by topic.";
    describe_counter DEAD_LETTERS = "driftline_dead_letters_total", Count,
        "Records refused and sent to dead letters, by topic and class.";
    describe_counter REROUTED = "driftline_records_rerouted_total", Count,
        "Records sent on to the partition of their user's shard, by topic.";
    describe_histogram COMMIT_SECONDS = "driftline_state_commit_seconds", Seconds,
        "Time to publish and commit what a shard folded.";
    describe_gauge PENDING_BYTES = "driftline_state_pending_bytes", Bytes,
        "Bytes of events folded and not yet committed, over all shards.";
    describe_gauge SHARDS = "driftline_shards", Count,
        "Shards that this worker owns.";
    describe_gauge SHARD_LAG = "driftline_shard_lag_records", Count,
        "Records of event topics not yet folded, over all shards.";
    describe_counter STORES_REBUILT = "driftline_state_rebuilt_total", Count,
        "Stores set aside and rebuilt from the log, by reason.";
    describe_histogram REQUEST_SECONDS = "driftline_request_seconds", Seconds,
        "From reading a request to handing over its reply, waiting included.";
    describe_counter REQUESTS = "driftline_requests_total", Count,
        "Requests answered, by outcome: ok, degraded or an error's type.";
    describe_gauge REQUESTS_WAITING = "driftline_requests_waiting", Count,
        "Requests that wait for the fold to pass their own events.";
    describe_histogram STAGE_SECONDS = "driftline_pipeline_stage_seconds", Seconds,
        "Time in one component of the serving pipeline, by stage and component.";
    describe_counter STAGE_ITEMS = "driftline_pipeline_items_total", Count,
        "Items that a source put forward or a filter removed, by stage and component.";
    describe_counter ITEMS_SERVED = "driftline_items_served_total", Count,
        "Items served, by the source that put them forward most strongly.";
    describe_counter IMPRESSIONS = "driftline_impressions_total", Count,
        "Lists answered, by what became of their record: sent, or dropped where it could not be.";
    describe_gauge SHOWN_BYTES = "driftline_shown_bytes", Bytes,
        "Memory of what users were lately shown, over all shards.";
    describe_counter JOINED_LISTS = "driftline_quality_lists_total", Count,
        "Lists read to be joined, by outcome: opened, duplicate, late, refused for want of memory, or unreadable.";
    describe_counter JOINED_OUTCOMES = "driftline_quality_outcomes_total", Count,
        "Watches and clicks read to be joined, by outcome: joined, corrected, duplicate, orphan, too_late or surplus.";
    describe_counter HURRIED_OUTCOMES = "driftline_quality_outcomes_hurried_total", Count,
        "Watches and clicks decided about before all lists were known, for want of memory.";
    describe_counter EXAMPLES = "driftline_quality_examples_total", Count,
        "Examples written.";
    describe_counter CORRECTIONS = "driftline_quality_corrections_total", Count,
        "Corrections of examples written.";
    describe_counter METRICS_WINDOWS = "driftline_quality_windows_total", Count,
        "Windows of metrics told, revisions too.";
    describe_counter RANKER_LESSONS = "driftline_ranker_examples_total", Count,
        "Examples read by the worker that learns to rank, by outcome: learnt, repeated, other_features or unreadable.";
    describe_counter RANKER_VERSIONS = "driftline_ranker_versions_total", Count,
        "Versions of the ranker published by this worker.";
    describe_counter RANKER_PAIRS_DROPPED = "driftline_ranker_pairs_dropped_total", Count,
        "Interactions whose pairs of items the ranker did not count, for want of memory.";
    describe_gauge RANKER_EXAMPLES = "driftline_ranker_version_examples", Count,
        "Examples that the ranker had learnt from which ranks.";
    describe_counter EXAMPLES_READ = "driftline_examples_read_total", Count,
        "Examples that this worker has learnt from, of all shards.";
    describe_gauge EXAMINATION = "driftline_examination_ratio", Count,
        "How likely the tenth place of a list is looked at, next to the first.";
    describe_gauge OPEN_LISTS = "driftline_quality_lists", Count,
        "Lists that are joined, by state: open, or closed and still corrected.";
    describe_gauge HELD_OUTCOMES = "driftline_quality_held_outcomes", Count,
        "Watches and clicks held until all lists before them are known.";
    describe_gauge JOIN_BYTES = "driftline_quality_memory_bytes", Bytes,
        "Memory of joins, over all shards.";
    describe_gauge JOIN_STORE_BYTES = "driftline_quality_store_bytes", Bytes,
        "Bytes that stores keep for joins, over all shards.";
    describe_counter LAKE_ROWS = "driftline_lake_rows_total", Count,
        "Rows written to the lake, by topic.";
    describe_counter LAKE_CUTS = "driftline_lake_cuts_total", Count,
        "Cuts written to the lake, by topic.";
    describe_counter LAKE_BYTES = "driftline_lake_bytes_total", Bytes,
        "Bytes of files written to the lake, by topic.";
    describe_counter LAKE_PASSED = "driftline_lake_records_passed_total", Count,
        "Records without a row in the lake, by topic and class.";
    describe_counter LAKE_LOST = "driftline_lake_offsets_lost_total", Count,
        "Offsets that the log lost before they were archived, by topic.";
    describe_counter LAKE_RETRIES = "driftline_lake_retries_total", Count,
        "Attempts at the object store that failed and are made again.";
    describe_gauge LAKE_PENDING_BYTES = "driftline_lake_pending_bytes", Bytes,
        "Records read and not yet in the lake.";
    describe_histogram LAKE_CUT_SECONDS = "driftline_lake_cut_seconds", Seconds,
        "Time to make a cut and write it to the object store.";
    describe_counter SNAPSHOTS = "driftline_snapshots_total", Count,
        "Snapshots of shards, by kind of shard and outcome: made or failed.";
    describe_counter SNAPSHOT_BYTES = "driftline_snapshot_bytes_total", Bytes,
        "Bytes of shards' stores sent to the object store.";
    describe_histogram SNAPSHOT_SECONDS = "driftline_snapshot_seconds", Seconds,
        "Time to send a snapshot.";
    describe_gauge SNAPSHOT_AGE = "driftline_snapshot_age_seconds", Seconds,
        "Time since the last snapshot of the owned shard that has waited longest for one.";
    describe_counter SNAPSHOT_PARTS_DELETED = "driftline_snapshot_parts_deleted_total", Count,
        "Parts of snapshots deleted, as no snapshot uses them any more.";
    describe_counter RESTORES = "driftline_restores_total", Count,
        "Stores made from a snapshot, by kind of shard.";
    describe_histogram RESTORE_SECONDS = "driftline_restore_seconds", Seconds,
        "Time to make a store from a snapshot.";
    describe_counter SNAPSHOTS_SKIPPED = "driftline_snapshots_skipped_total", Count,
        "Snapshots that a store was not made from, by reason: damaged, ahead_of_log, topic_changed, other_identity or set_aside.";
    describe_counter RECORDS_LOST = "driftline_state_records_lost_total", Count,
        "Records that no state knows: after the newest snapshot, and gone from the log.";
    describe_gauge MONITOR_LEADS = "driftline_monitor_leads", Count,
        "Whether this monitor leads: 1, or 0 where it stands by.";
    describe_counter MONITOR_WINDOWS = "driftline_monitor_windows_total", Count,
        "Records of metrics read by the monitor, by outcome: new, replaced, repeated, late, answers, answers_late or refused.";
    describe_gauge MONITOR_MINUTES = "driftline_monitor_minutes", Count,
        "Minutes of metrics that the monitor has judged.";
    describe_gauge MONITOR_EVIDENCE = "driftline_monitor_evidence", Count,
        "Evidence for a change, as a share of what makes an alarm, by segment and metric.";
    describe_counter TRIGGERS = "driftline_triggers_total", Count,
        "Triggers told, by action and state.";
    describe_counter GATEWAY_CALLS = "driftline_gateway_calls_total", Count,
        "Calls of the gateway answered, by path and status.";
    describe_histogram GATEWAY_SECONDS = "driftline_gateway_seconds", Seconds,
        "Time that a call of the gateway took, by path.";
    describe_gauge GATEWAY_PAGES = "driftline_gateway_pages", Count,
        "Open pages of the dashboard that are kept up to date.";
    describe_counter GATEWAY_DROPPED = "driftline_gateway_pages_dropped_total", Count,
        "Open pages that read too slowly and were dropped, by why: lagged or stalled.";
    describe_counter PREDICTIONS = "driftline_predictions_total", Count,
        "Events predicted before they were learnt, by source and outcome: hit, among its first 20, or miss.";
    describe_gauge BLEND_WEIGHT = "driftline_blend_weight", Count,
        "How much the word of a source counts, 0 to 1, learned from predictions.";
    describe_gauge GLOBAL_SESSIONS = "driftline_global_sessions", Count,
        "Sessions in the global tables.";
    describe_gauge GLOBAL_BYTES = "driftline_global_bytes", Bytes,
        "Memory of the global tables.";
    describe_counter TRANSITION_ROWS = "driftline_transition_rows_total", Count,
        "Positive interactions for next-item transitions, by outcome: taken, or left out in a burst.";
    describe_gauge TRANSITION_BYTES = "driftline_transition_bytes", Bytes,
        "Memory of the interactions that next-item transitions are learned from.";
    describe_gauge TRANSITION_ITEMS = "driftline_transition_items", Count,
        "Items between which next-item transitions are known.";
    describe_histogram TRANSITION_SOLVE_SECONDS = "driftline_transition_solve_seconds", Seconds,
        "Time to make next-item transitions anew, in the background.";
    describe_counter INTERACTIONS_READ = "driftline_interactions_read_total", Count,
        "Interactions read into the global tables, by outcome: new or replayed.";
    describe_counter HOT_WRITES = "driftline_hot_writes_total", Count,
        "Users written to the hot tier, by outcome: written, older, failed or dropped.";
    describe_counter HOT_READS = "driftline_hot_reads_total", Count,
        "Users looked up in the hot tier, by outcome: used, older, absent, foreign, damaged or failed.";
    describe_counter HOT_ERRORS = "driftline_hot_errors_total", Count,
        "Attempts at the hot tier that failed, by side and reason.";
    describe_gauge HOT_BREAKER = "driftline_hot_breaker", Count,
        "Breaker before the hot tier, by side: 0 closed, 1 half open, 2 open.";
    describe_gauge HOT_QUEUE = "driftline_hot_queue_users", Count,
        "Users that wait to be written to the hot tier.";
    describe_histogram HOT_SECONDS = "driftline_hot_seconds", Seconds,
        "Time that an answer waited for the hot tier, or a batch of writes took, by side.";
    describe_counter HISTORIES = "driftline_interaction_histories_total", Count,
        "Histories that positive interactions carry, by how they were known: held, read or partial.";
    describe_counter ITEM_INTERACTIONS = "driftline_item_interactions_total", Count,
        "Interactions folded into item states, by outcome: new or replayed.";
    describe_gauge ITEM_SHARDS = "driftline_item_shards", Count,
        "Item shards that this worker owns.";
    describe_gauge ITEM_SHARD_LAG = "driftline_item_shard_lag_records", Count,
        "Records of interactions not yet folded of those there at assignment, over all item shards.";
    describe_counter ITEM_RECORDS = "driftline_item_records_published_total", Count,
        "Records of items published, by kind: embedding, features or tombstone.";
    describe_counter ITEM_RECORDS_READ = "driftline_item_records_read_total", Count,
        "Records of items read into the item tables, by outcome: applied, removed or refused.";
    describe_gauge ITEM_TABLE_ITEMS = "driftline_item_table_items", Count,
        "Items in the item tables.";
    describe_gauge ITEM_TABLE_BYTES = "driftline_item_table_bytes", Bytes,
        "Memory of the item tables, indexes included.";
    describe_gauge LIVE_BASES = "driftline_live_bases", Count,
        "Bases over which item vectors are live.";
    describe_gauge MODEL_EPOCH = "driftline_model_epoch", Count,
        "Epoch of the newest decision on which model serves; the same on every worker once it is read.";
    describe_gauge ROLLOUT_SHARE = "driftline_rollout_share", Count,
        "Share of users that a candidate serves; 0 where none is on trial.";
    describe_counter ROLLOUT_DECISIONS = "driftline_rollout_decisions_total", Count,
        "Decisions that this deployer made, by the phase that they led to.";
    describe_counter FIRST_BASES = "driftline_first_bases_total", Count,
        "First bases that this worker has trained and published.";
    describe_counter CATALOG_RECORDS = "driftline_catalog_records_total", Count,
        "Records of the catalog read, by outcome: listed, delisted or refused.";
    describe_gauge CATALOG_ITEMS = "driftline_catalog_items", Count,
        "Items listed in the catalog.";
    describe_gauge CATALOG_DELISTED = "driftline_catalog_delisted_items", Count,
        "Items known to be delisted.";
    describe_gauge CATALOG_BYTES = "driftline_catalog_bytes", Bytes,
        "Memory of the catalog.";
}
