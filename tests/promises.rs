//! What certctl promises of agents, jobs and deployments, and the tests that hold each promise.

use std::{fs, path::Path};

/// A promise, and the tests that hold it.
const PROMISES: &[(&str, &[&str])] = &[
    // What agents are given, and who runs what.
    (
        "an agent gets the whole configuration of its own targets, and no other agent does",
        &[
            "agent::two::each_makes_its_own_key_and_deploys_its_own_version_alone",
            "api::leases::the_work_of_another_agent_and_jobs_that_are_not_there_are_refused",
        ],
    ),
    (
        "a job is leased to the one that is to run it, and to nobody else until that lease ends",
        &[
            "api::leases::a_leased_job_is_given_to_nobody_else",
            "api::leases::polls_at_once_share_the_jobs",
            "agent::fleet::a_thousand_agents_get_their_jobs_each_once",
        ],
    ),
    (
        "attempts are counted when a job is begun, come ever later, and end",
        &[
            "api::leases::a_job_lost_three_times_fails_and_is_planned_anew",
            "lifecycle::loss::failed_attempts_come_ever_later_and_start_anew_with_the_next_version",
            "lifecycle::budget::a_hundred_orders_and_no_more",
        ],
    ),
    (
        "a renewal that failed or was lost never leaves its certificate without a next action",
        &[
            "lifecycle::loss::an_agent_that_loses_every_job_fails_the_order_which_is_tried_again",
            "lifecycle::walk::any_order_of_events_keeps_what_must_hold_and_heals",
            "lifecycle::attention::expired_while_its_agent_is_away_and_healed_when_it_is_back",
        ],
    ),
    (
        "what a deployment showed, how it ended and when are kept, and count",
        &[
            "api::leases::only_what_was_seen_confirms_a_deployment",
            "lifecycle::deployment::a_broken_rollback_is_told",
            "api::shapes::orders::an_order",
        ],
    ),
    // A key and its certificate.
    (
        "each version has a key of its own: a failed issuance leaves the served pair alone",
        &[
            "agent::jobs::a_job_leased_again_uses_the_same_key",
            "agent::jobs::a_refused_request_is_reported_and_its_key_forgotten",
            "agent::deploy::issued_then_deployed_to_file_and_site_then_renewed",
        ],
    ),
    (
        "keys go when every target has left their version, and not before",
        &["agent::deploy::superseded_versions_go_with_their_keys_once_all_targets_left_them"],
    ),
    (
        "two agents on one certificate have a version and a key each",
        &[
            "agent::two::each_makes_its_own_key_and_deploys_its_own_version_alone",
            "agent::two::one_that_is_away_keeps_the_other_from_nothing",
            "lifecycle::renewal::each_agent_holds_its_own_version",
        ],
    ),
    (
        "a deployment is of one version, whatever was issued since",
        &[
            "lifecycle::deployment::a_newer_version_stops_a_deployment_under_way",
            "agent::jobs::what_is_not_understood_is_refused_and_the_rest_goes_on",
        ],
    ),
    (
        "a CSR is one request however often it is sent, and its answer may be lost",
        &[
            "api::leases::a_repeated_csr_is_answered_as_the_first_and_issues_once",
            "api::leases::a_late_csr_counts_only_while_nobody_else_has_the_job",
            "agent::jobs::a_refused_request_is_reported_and_its_key_forgotten",
        ],
    ),
    (
        "before anything is written, key, leaf, names, dates and chain are seen to fit",
        &[
            "agent::deploy::what_cannot_be_deployed_fails_clearly_and_changes_nothing",
            "agent::clocks::a_host_a_year_ahead_keeps_what_it_has_until_its_clock_is_right",
            "agent::clocks::a_host_a_year_behind_keeps_what_it_has_until_its_clock_is_right",
        ],
    ),
    (
        "an agent asks for certificates of its own jobs alone",
        &[
            "api::leases::another_agents_job_is_out_of_reach",
            "api::leases::a_job_takes_only_the_words_of_its_kind",
        ],
    ),
    (
        "a certificate without targets is issued to whoever asks with a key",
        &["api::shapes::orders::a_requesters_csr_is_answered_with_a_version_once_per_key"],
    ),
    // Delivery.
    (
        "a lost answer, a crash and a restart give a job again, and no later word of the first run counts",
        &[
            "api::leases::an_expired_lease_is_taken_back_and_its_words_are_refused",
            "api::leases::a_second_run_of_the_agent_takes_over_and_the_first_ones_words_are_refused",
            "api::leases::an_agent_that_starts_ends_its_own_leases_alone",
            "agent::jobs::a_newer_lease_of_a_job_in_hand_takes_its_place",
            "chaos::kills::nothing_acknowledged_is_lost_and_everything_comes_to_its_end",
        ],
    ),
    (
        "only the holder of a lease reports, once, and never on a cancelled or ended job",
        &[
            "api::leases::wrong_tokens_are_refused",
            "api::leases::a_report_for_a_cancelled_job_is_refused_and_changes_nothing",
            "api::leases::an_ended_job_takes_no_lease",
            "api::leases::one_report_sent_twice_at_once_is_told_once",
        ],
    ),
    (
        "a report is kept on disk and sent until the server has it",
        &[
            "agent::jobs::reports_are_repeated_until_acknowledged_also_after_a_restart",
            "agent::away::weeks_without_a_server_lose_nothing_and_stop_nothing",
            "agent::away::an_agent_that_starts_while_the_server_is_away_serves_and_keeps_its_reports",
        ],
    ),
    (
        "the age of a lease is that of its last renewal",
        &[
            "api::leases::a_lease_is_renewed_from_now_on_under_the_same_token",
            "api::leases::a_renewed_lease_is_kept_past_its_first_end",
        ],
    ),
    (
        "one cause has one order, however often it is asked for",
        &["lifecycle::renewal::one_order_for_one_cause"],
    ),
    (
        "a decision is whole or not at all, whenever the power goes",
        &[
            "sim::faults::the_server_loses_its_power_while_it_issues",
            "sim::faults::the_server_loses_its_power_while_it_renews",
            "sim::faults::the_servers_disk_fails_while_it_renews",
        ],
    ),
    // Latency and scale.
    (
        "work comes to a waiting agent at once",
        &[
            "api::leases::a_waiting_poll_is_answered_when_work_comes",
            "api::leases::a_waiting_poll_is_answered_when_a_failed_job_may_be_begun_again",
            "bench::runs::agents",
        ],
    ),
    (
        "what hangs stops neither polls nor leases nor other targets nor reports",
        &[
            "agent::apart::a_job_that_hangs_stops_neither_polls_nor_its_lease_nor_other_targets_nor_reports",
            "agent::apart::four_deployments_are_under_way_at_once_and_others_wait_their_turn",
            "agent::apart::a_target_takes_one_deployment_at_a_time",
            "agent::apart::reports_that_the_server_does_not_take_keep_no_job_waiting",
            "agent::load::deployments_that_wait_for_one_target_keep_no_other_waiting",
            "sys::exec::a_program_that_hangs_is_killed_with_all_it_started",
        ],
    ),
    (
        "a waiting agent costs two reads and little memory, however many there are",
        &[
            "agent::fleet::a_thousand_agents_get_their_jobs_each_once",
            "agent::fleet::an_agent_that_waits_takes_little_of_the_server",
        ],
    ),
    (
        "being heard is a fact of its own: it is never written over by an older one",
        &[
            "lifecycle::loss::presence_that_was_written_down_outlives_the_process",
            "lifecycle::loss::what_was_heard_is_to_be_written_until_it_is",
            "lifecycle::loss::an_agent_is_waited_for_once_it_was_silent_for_five_minutes",
        ],
    ),
    (
        "a server that is away is asked about once a minute, and told of about once an hour",
        &[
            "agent::away::weeks_without_a_server_lose_nothing_and_stop_nothing",
            "agent::jobs::failing_polls_back_off_to_a_minute",
        ],
    ),
    // Security.
    (
        "each agent has a credential of its own, which reaches that agent alone",
        &[
            "api::access::every_route_lets_in_whom_it_should_and_nobody_else",
            "api::leases::another_agents_job_is_out_of_reach",
            "api::join::only_the_hash_of_a_secret_is_stored",
        ],
    ),
    (
        "a stolen join token lets nobody in once it is used up or has ended, and takes no live agent over",
        &[
            "api::join::a_token_lets_one_agent_in",
            "api::join::a_token_ends_at_its_end",
            "api::join::the_name_of_a_live_agent_is_taken",
            "api::join::an_agent_that_polls_is_not_replaced",
        ],
    ),
    (
        "an agent that is retired stops",
        &["agent::jobs::retired_by_a_poll_or_a_report"],
    ),
    (
        "a program gets no secret of ours, and no shell reads its arguments",
        &[
            "sys::exec::a_program_sees_no_variable_of_ours_and_the_usual_umask",
            "sys::exec::what_a_program_says_and_how_it_ends_is_told",
        ],
    ),
    // Deployments.
    (
        "a deployment cut anywhere is finished or undone at the next start",
        &[
            "agent::crash::a_first_file_deployment_cut_anywhere",
            "agent::crash::a_third_file_deployment_cut_anywhere",
            "agent::crash::a_site_deployment_cut_anywhere",
            "agent::jobs::a_stop_amid_a_deployment_is_decided_at_the_next_start",
            "sim::faults::the_host_loses_its_power_while_it_deploys_a_renewal",
        ],
    ),
    (
        "what is not seen served is rolled back, and the report says so",
        &[
            "agent::deploy::a_listener_that_keeps_the_old_pair_is_rolled_back",
            "agent::deploy::a_first_version_not_served_leaves_no_link",
            "agent::jobs::a_deployment_whose_lease_is_lost_is_undone",
        ],
    ),
    (
        "endpoints are looked at under their server name, also where TLS begins by STARTTLS",
        &[
            "net::starttls::what_is_served_after_starttls_is_seen",
            "net::starttls::words_that_came_in_the_clear_before_tls_are_refused",
            "net::starttls::an_answer_without_an_end_is_not_read_for_ever",
            "net::probe::a_server_without_the_leafs_key_is_not_confirmed",
        ],
    ),
    (
        "settings take what people write, and name what is wrong",
        &[
            "agent::config::defaults_and_values",
            "agent::config::what_is_wrong_is_named",
        ],
    ),
    (
        "the end of what programs said is kept, bounded and printable",
        &[
            "sys::exec::the_end_of_long_output_is_kept_without_control_characters",
            "api::leases::a_long_reason_is_cut_and_the_report_taken",
            "api::leases::a_reason_is_kept_without_control_characters",
        ],
    ),
];

#[test]
fn each_promise_is_held_by_tests_that_are_there() {
    let mut faults: Vec<&&str> = Vec::new();
    for (promise, tests) in PROMISES {
        assert!(!tests.is_empty(), "nothing holds: {promise}");
        faults.extend(tests.iter().filter(|test| !is_there(test)));
    }
    assert!(faults.is_empty(), "no such tests: {faults:#?}");
}

#[test]
fn a_test_that_is_not_there_is_missed() {
    for name in [
        "agent::jobs::no_such_test",
        "agent::nowhere::retired_by_a_poll_or_a_report",
        "agent::jobs::retired_by_a_poll",
        // There, and no test.
        "agent::jobs::file",
        "retired_by_a_poll_or_a_report",
    ] {
        assert!(!is_there(name), "{name}");
    }
    assert!(is_there("agent::jobs::retired_by_a_poll_or_a_report"));
}

/// Whether `module::name` is a test: a function marked so, or one that a macro makes a test of.
fn is_there(test: &str) -> bool {
    let Some((module, name)) = test.rsplit_once("::") else {
        return false;
    };
    let path = Path::new("tests").join(module.replace("::", "/"));
    let source = [path.with_extension("rs"), path.join("mod.rs")]
        .iter()
        .find_map(|file| fs::read_to_string(file).ok());
    let Some(source) = source else {
        return false;
    };
    let file: syn::File = syn::parse_str(&source).expect("Rust");
    file.items.iter().any(|item| match item {
        syn::Item::Fn(f) => f.sig.ident == name && f.attrs.iter().any(is_test),
        syn::Item::Macro(m) => {
            let mut words = m.mac.tokens.clone().into_iter();
            words.any(|word| word.to_string() == name)
        }
        _ => false,
    })
}

fn is_test(attribute: &syn::Attribute) -> bool {
    let path = attribute.path();
    path.segments
        .last()
        .is_some_and(|last| last.ident == "test")
}
