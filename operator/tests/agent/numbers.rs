//! How long a dump and a restore of 1 GiB take beside the tools of PostgreSQL alone, and how much memory the agent has meanwhile. Not a part
//! of the other tests: `cargo test -p rorun-operator --test=agent numbers -- --ignored --nocapture` measures with a release build, which
//! it makes, and prints. Times depend on the machine, so that none of them fails; the memory does not.

use std::process::Command;
use std::time::{Duration, Instant};

use rorun_operator::contract::{DrillOutcome, RestoreStep};

use crate::drills::drill;
use crate::programs;
use crate::restores::Restore;
use crate::scenario::Scenario;

/// About 1 GiB with its index, as text that compresses as receipts do.
const ROWS: u32 = 5_600_000;
/// Each is measured as often, by turns, and the fastest counts: other work on the machine only slows down.
const ROUNDS: usize = 2;
/// What the agent may have in memory, with the parts of an upload: two of 8 MiB, and one that is being read.
const MOST: u64 = (64 + 3 * 8) << 20;

/// The most memory that a process has had, once it has ended.
async fn peak(pid: u32) -> u64 {
    let mut most = 0;
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(line) = line else { break };
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        most = most.max(kibibytes << 10);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most
}

fn run(command: &mut Command) -> Duration {
    let begun = Instant::now();
    programs::run(command);
    begun.elapsed()
}

fn told(what: &str, floor: Duration, agent: Duration) {
    let (floor, agent) = (floor.as_secs_f64(), agent.as_secs_f64());
    println!("{what:42} {floor:6.1} s {agent:6.1} s {:6.2}", floor / agent);
}

#[tokio::test]
#[ignore = "it takes minutes, 4 GiB of disk and a release build"]
async fn numbers_of_a_gibibyte() {
    programs::measure_optimised();
    let scenario = Scenario::new("numbers").await;
    let table = format!(
        "CREATE TABLE receipts AS SELECT n AS id, 'shop ' || n % 5000 AS shop, md5(n::text) AS reference, n * 1.07 AS total, \
         md5((n * 7)::text) || md5((n * 11)::text) AS line FROM generate_series(1::bigint, {ROWS}) n"
    );
    scenario.sql(&table).await;
    scenario.sql("ALTER TABLE receipts ADD PRIMARY KEY (id); CHECKPOINT").await;
    let size = scenario.sql("SELECT pg_database_size(current_database())").await;
    let (program, url) = (|name| scenario.servers.programs.join(name), scenario.servers.database_url(scenario.name));
    let (mut floor, mut agent, mut most, mut point) = (Duration::MAX, Duration::MAX, 0, None);
    for _ in 0..ROUNDS {
        let mut piped = Command::new("sh");
        piped.args(["-c", "\"$0\" --format=custom \"$1\" | cat > /dev/null"]).arg(program("pg_dump")).arg(&url);
        floor = floor.min(run(&mut piped));
        let begun = Instant::now();
        let record =
            scenario.run_during(scenario.command(), async |pid| most = most.max(peak(pid).await)).await.complete();
        agent = agent.min(begun.elapsed());
        point = Some(record);
    }
    let point = point.expect("a point");
    println!("database {size} bytes, dump {} bytes; pg_dump | cat or pg_restore, the agent, ratio", point.size_bytes);
    told("dump into SeaweedFS", floor, agent);

    let file = scenario.servers.folder().join("numbers.dump");
    let key = scenario.dump_key(&point.id);
    std::fs::write(&file, scenario.bucket.get(&key).await.expect("get").expect("a dump")).expect("file");
    let restore = Restore::of(&scenario, &point.id);
    let (mut floor, mut agent, mut most_restoring) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..ROUNDS {
        scenario.sql_in("postgres", "DROP DATABASE IF EXISTS \"numbers-floor\"").await;
        scenario.sql_in("postgres", "CREATE DATABASE \"numbers-floor\" TEMPLATE template0").await;
        let mut pg_restore = Command::new(program("pg_restore"));
        pg_restore.args(["--no-owner", "--dbname", &scenario.servers.database_url("numbers-floor")]).arg(&file);
        floor = floor.min(run(&mut pg_restore));
        scenario.sql_in("postgres", &format!("DROP DATABASE IF EXISTS \"{}\"", restore.copy())).await;
        let begun = Instant::now();
        let command = restore.command(RestoreStep::Copy, &[]);
        let step = restore.run_during(command, async |pid| most_restoring = most_restoring.max(peak(pid).await)).await;
        step.done();
        agent = agent.min(begun.elapsed());
    }
    told("restore beside, with the rows compared", floor, agent);
    let outcome = drill(&scenario, |_| {}).await;
    let DrillOutcome::Complete(drill) = outcome else { panic!("{outcome:?}") };
    println!("{:42} {} s, {:?} rows", "drill", drill.duration_seconds, drill.rows);
    println!("{:42} {} MiB; {} MiB", "most memory: dump; restore", most >> 20, most_restoring >> 20);
    assert!(most < MOST && most_restoring < MOST, "{most} {most_restoring}");
}
