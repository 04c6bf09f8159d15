//! `rabbitmqctl`, which hangs where the broker does.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(15);

/// Runs `rabbitmqctl`; `false` where it is not there or not allowed, or takes longer than 15 s.
pub fn control(arguments: &[&str]) -> bool {
    let mut command = Command::new("rabbitmqctl");
    // Pipes would be held by what it starts, also after its own end.
    quiet(command.arg("-q").args(arguments)).spawn().is_ok_and(ends_well)
}

/// Runs `rabbitmqctl` and returns what it prints; `None` where [`control`] says `false`.
pub fn asked(arguments: &[&str]) -> Option<String> {
    // A file, since pipes would be held as above.
    let name = format!("agentbus-asked-{}-{:08x}", std::process::id(), fastrand::u32(..));
    let printed = env::temp_dir().join(name);
    let mut command = Command::new("rabbitmqctl");
    quiet(command.arg("-q").args(arguments)).stdout(fs::File::create(&printed).ok()?);
    let well = command.spawn().is_ok_and(ends_well);
    let text = fs::read_to_string(&printed).ok();
    drop(fs::remove_file(&printed));
    text.filter(|_| well)
}

/// Removes a virtual host when a process has ended, which may be after this one.
///
/// However often it is asked to, it is removed once: `add_vhost` succeeds also where there is one,
/// and RabbitMQ 3.10 hangs when several remove the same one at once.
pub fn remove_after(process: u32, vhost: &str) {
    let mark = env::temp_dir().join(vhost);
    if fs::create_dir(&mark).is_err() {
        return;
    }
    let script = format!(
        "while kill -0 {process} 2>/dev/null; do sleep 1; done; \
         rabbitmqctl -q delete_vhost {vhost}; rmdir \"$0\""
    );
    drop(quiet(Command::new("sh").arg("-c").arg(script).arg(mark)).spawn());
}

/// Neither heard nor seen, and not ended together with the tests.
fn quiet(command: &mut Command) -> &mut Command {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0)
}

fn ends_well(mut child: Child) -> bool {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            Err(_) => return false,
        }
    }
    // It is a shell script: what it has started goes with it.
    let group = format!("-{}", child.id());
    drop(quiet(Command::new("kill").args(["-TERM", "--", &group])).status());
    drop(child.kill());
    drop(child.wait());
    false
}
