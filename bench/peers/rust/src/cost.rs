use crate::Failure;
use std::time::{Duration, Instant};

/// The time, the CPU time of all threads, and the memory of this process at one moment.
pub struct Cost {
    time: Instant,
    cpu: Duration,
    memory: u64,
}

impl Cost {
    pub fn now() -> Result<Self, Failure> {
        Ok(Self { time: Instant::now(), cpu: cpu(), memory: memory()? })
    }

    /// One line of JSON.
    pub fn since(&self, before: &Self) -> String {
        let elapsed = (self.time - before.time).as_secs_f64() * 1e3;
        let cpu = (self.cpu - before.cpu).as_secs_f64() * 1e3;
        format!("{{\"elapsed\":{elapsed:.3},\"cpu\":{cpu:.3},\"memory\":{}}}", self.memory)
    }
}

fn cpu() -> Duration {
    // Valid, because a structure of integers may be all zeros, and getrusage() only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let duration =
        |time: libc::timeval| Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64);
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

fn memory() -> Result<u64, Failure> {
    let sizes = std::fs::read_to_string("/proc/self/status")?;
    let resident = sizes.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}
