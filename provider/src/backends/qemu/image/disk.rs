//! The disk of an image: where its partitions lie, its GPT, its EFI system partition, how its root file system is
//! made. Needs neither root nor loop devices.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use gpt::disk::LogicalBlockSize;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};
use uuid::Uuid;

use super::BuildError;
use super::tree::Mke2fs;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECTOR: u64 = 512;

/// The EFI system partition holds two kernels with their initrds, and FAT32 wants some size.
const ESP_START: u64 = MIB;
const ESP_SIZE: u64 = 256 * MIB;
const ROOT_START: u64 = ESP_START + ESP_SIZE;
/// For the second GPT, and to end at a whole MiB.
const END: u64 = MIB;

/// C12A7328-F81F-11D2-BA4B-00A0C93EC93B, from the UEFI specification.
const ESP_TYPE: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

/// A disk to be made: its size and all that identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes; a multiple of 1 MiB.
    pub(super) size: u64,
    /// The disk's own id.
    pub(super) disk_id: Uuid,
    /// The EFI system partition's id.
    pub(super) esp_partuuid: Uuid,
    /// The root partition's id.
    pub(super) root_partuuid: Uuid,
    /// The root partition's type, by architecture.
    pub(super) root_type: Uuid,
    /// The root file system's id; also the seed of its folder hashes.
    pub(super) fs_uuid: Uuid,
    /// No file is dated later: seconds since 1970.
    pub(super) epoch: i64,
}

/// The smallest disk, in GiB, for content of `mib` MiB: inode tables, journal and reserved blocks take a tenth.
pub(super) fn smallest_gb(mib: u64) -> u64 {
    let bytes = mib * MIB * 112 / 100 + ROOT_START + END + 128 * MIB;
    bytes.div_ceil(GIB)
}

impl Layout {
    fn root_size(&self) -> u64 {
        self.size.saturating_sub(ROOT_START + END)
    }

    /// How the root file system is made. Its tables are marked as zeroed because a new disk reads as zeroes, so
    /// they take no space and the guest does not write them at its first boot.
    pub(super) fn mke2fs(&self, version: E2fsprogs) -> Mke2fs {
        let mut extended = vec![
            format!("offset={ROOT_START}"),
            format!("hash_seed={}", self.fs_uuid),
            "lazy_itable_init=1".to_owned(),
            "lazy_journal_init=1".to_owned(),
            "nodiscard".to_owned(),
        ];
        if version >= E2fsprogs(1, 47) {
            extended.push("assume_storage_prezeroed=1".to_owned());
        }
        let size = format!("{}k", self.root_size() / 1024);
        let uuid = self.fs_uuid.to_string();
        let extended = extended.join(",");
        let args =
            ["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "1", "-U", &uuid, "-E", &extended];
        let args = args.map(str::to_owned).into();
        let epoch = self.epoch.to_string();
        Mke2fs {
            args,
            size,
            // The second is understood since 1.47.1, the first by older ones.
            env: vec![("E2FSPROGS_FAKE_TIME", epoch.clone()), ("SOURCE_DATE_EPOCH", epoch)],
        }
    }

    /// Writes the partition table and the EFI system partition around the root file system in `disk`, and brings
    /// that file system's dates in order.
    ///
    /// # Errors
    /// When the disk cannot be written, or the files do not fit the EFI system partition.
    pub(super) fn complete(&self, disk: &Path, esp: &Path) -> Result<(), BuildError> {
        let fail = |operation| BuildError::io(operation, disk);
        let mut file = OpenOptions::new().read(true).write(true).open(disk).map_err(fail("open"))?;
        self.write_gpt(&mut file).map_err(fail("write the partition table of"))?;
        write_esp(&file, self.epoch, self.volume_id(), esp)
            .map_err(fail("write the EFI system partition of"))?;
        super::ext4::settle_dates(&mut file, ROOT_START, self.epoch).map_err(fail("date the files of"))
    }

    fn volume_id(&self) -> u32 {
        self.esp_partuuid.as_fields().0
    }

    fn write_gpt(&self, file: &mut File) -> io::Result<()> {
        let size = u32::try_from(self.size / SECTOR - 1).unwrap_or(u32::MAX);
        gpt::mbr::ProtectiveMBR::with_lb_size(size).overwrite_lba0(file).map_err(io::Error::other)?;
        let device: Box<&mut File> = Box::new(file);
        let config = gpt::GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
        let mut disk = config.create_from_device(device, Some(self.disk_id)).map_err(io::Error::other)?;
        let partition = |kind: Type, id: Uuid, start: u64, size: u64, name: &str| Partition {
            part_type_guid: kind,
            part_guid: id,
            first_lba: start / SECTOR,
            last_lba: (start + size) / SECTOR - 1,
            flags: 0,
            name: name.to_owned(),
        };
        let esp_type =
            Type { guid: Uuid::try_parse(ESP_TYPE).unwrap_or_default(), os: OperatingSystem::None };
        let root_type = Type { guid: self.root_type, os: OperatingSystem::Linux };
        let partitions = [
            (1, partition(esp_type, self.esp_partuuid, ESP_START, ESP_SIZE, "esp")),
            (2, partition(root_type, self.root_partuuid, ROOT_START, self.root_size(), "root")),
        ];
        disk.update_partitions(partitions.into()).map_err(io::Error::other)?;
        disk.write().map_err(io::Error::other)?;
        Ok(())
    }
}

/// The version of the host's e2fsprogs: major, minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct E2fsprogs(pub(super) u32, pub(super) u32);

impl E2fsprogs {
    /// From `mke2fs -V`: `mke2fs 1.47.0 (5-Feb-2023)`. An unknown one counts as old.
    pub(super) fn parse(output: &str) -> Self {
        let version = output.lines().find_map(|line| line.strip_prefix("mke2fs ")).unwrap_or_default();
        let mut numbers = version.split(['.', ' ', '-']).map_while(|number| number.parse().ok());
        Self(numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
    }
}

/// All files carry one date, in the zone-less format of FAT.
#[derive(Debug)]
struct Fixed(fatfs::DateTime);

impl fatfs::TimeProvider for Fixed {
    fn get_current_date(&self) -> fatfs::Date {
        self.0.date
    }

    fn get_current_date_time(&self) -> fatfs::DateTime {
        self.0
    }
}

fn write_esp(disk: &File, epoch: i64, volume_id: u32, from: &Path) -> io::Result<()> {
    let mut window = Window { file: disk, at: 0 };
    let options = fatfs::FormatVolumeOptions::new()
        .fat_type(fatfs::FatType::Fat32)
        .bytes_per_cluster(1024)
        .total_sectors(u32::try_from(ESP_SIZE / SECTOR).map_err(io::Error::other)?)
        .volume_id(volume_id)
        .volume_label(*b"ESP        ");
    fatfs::format_volume(&mut window, options)?;
    window.rewind()?;
    // fatfs wants the clock for the program's whole life; a build makes one of a few bytes.
    let clock: &'static Fixed = Box::leak(Box::new(Fixed(fat_date(epoch))));
    let fs = fatfs::FileSystem::new(window, fatfs::FsOptions::new().time_provider(clock))?;
    copy_into(&fs.root_dir(), from)?;
    fs.unmount()
}

fn fat_date(epoch: i64) -> fatfs::DateTime {
    use chrono::{Datelike, Timelike};
    let at = chrono::DateTime::from_timestamp(epoch, 0).unwrap_or_default();
    let part = |value: u32| u16::try_from(value).unwrap_or_default();
    fatfs::DateTime {
        date: fatfs::Date {
            year: u16::try_from(at.year()).unwrap_or(1980).clamp(1980, 2107),
            month: part(at.month()),
            day: part(at.day()),
        },
        time: fatfs::Time {
            hour: part(at.hour()),
            min: part(at.minute()),
            sec: part(at.second()),
            millis: 0,
        },
    }
}

fn copy_into<T: fatfs::ReadWriteSeek>(dir: &fatfs::Dir<'_, T>, from: &Path) -> io::Result<()> {
    let mut entries: Vec<fs::DirEntry> = fs::read_dir(from)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| io::Error::other("a file's name is not UTF-8"))?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_into(&dir.create_dir(name)?, &entry.path())?;
        } else if kind.is_file() {
            let mut source = File::open(entry.path())?;
            let mut target = dir.create_file(name)?;
            target.truncate()?;
            let mut buffer = vec![0; 1 << 20];
            loop {
                let read = source.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                target.write_all(&buffer[..read])?;
            }
            target.flush()?;
        }
    }
    Ok(())
}

/// The EFI system partition's part of the disk.
struct Window<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(ESP_SIZE - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..room], ESP_START + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(ESP_SIZE - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let wrote = std::os::unix::fs::FileExt::write_at(self.file, &buffer[..room], ESP_START + self.at)?;
        self.at += wrote as u64;
        Ok(wrote)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => i128::from(at),
            SeekFrom::Current(by) => i128::from(self.at) + i128::from(by),
            SeekFrom::End(by) => i128::from(ESP_SIZE) + i128::from(by),
        };
        self.at =
            u64::try_from(target).ok().filter(|at| *at <= ESP_SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: u64) -> Layout {
        Layout {
            size,
            disk_id: Uuid::from_u128(1),
            esp_partuuid: Uuid::from_u128(2),
            root_partuuid: Uuid::from_u128(3),
            root_type: Uuid::from_u128(4),
            fs_uuid: Uuid::from_u128(5),
            epoch: 1_700_000_000,
        }
    }

    #[test]
    fn the_disk_is_what_others_read() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, esp) = (dir.path().join("disk"), dir.path().join("esp"));
        fs::create_dir_all(esp.join("EFI/BOOT")).unwrap();
        let loader: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        fs::write(esp.join("EFI/BOOT/BOOTX64.EFI"), &loader).unwrap();
        fs::write(esp.join("a long name.conf"), "x").unwrap();
        let make = || {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&disk).unwrap();
            file.set_len(GIB).unwrap();
            let layout = layout(GIB);
            layout.write_gpt(&mut file).unwrap();
            write_esp(&file, layout.epoch, layout.volume_id(), &esp).unwrap();
            fs::read(&disk).unwrap()
        };
        let bytes = make();
        assert!(bytes == make(), "the same again");
        let gpt = gpt::GptConfig::new().writable(false).open(&disk).unwrap();
        let found: Vec<_> =
            gpt.partitions().values().map(|it| (it.part_guid.as_u128(), it.first_lba, it.last_lba)).collect();
        assert_eq!(gpt.guid().as_u128(), 1);
        assert_eq!(found, [(2, 2048, 526_335), (3, 526_336, 2_095_103)]);
        let esp = FileSystem::of(&bytes);
        let mut read = Vec::new();
        esp.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").unwrap().read_to_end(&mut read).unwrap();
        assert!(read == loader);
        assert!(esp.root_dir().open_file("a long name.conf").is_ok());
        assert_eq!(esp.fat_type(), fatfs::FatType::Fat32);
    }

    struct FileSystem;

    impl FileSystem {
        fn of(bytes: &[u8]) -> fatfs::FileSystem<io::Cursor<Vec<u8>>> {
            let part =
                bytes[usize::try_from(ESP_START).unwrap()..usize::try_from(ROOT_START).unwrap()].to_vec();
            fatfs::FileSystem::new(io::Cursor::new(part), fatfs::FsOptions::new()).unwrap()
        }
    }

    #[test]
    fn too_much_for_the_partition_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let disk = File::create_new(dir.path().join("disk")).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(dir.path().join("disk")).unwrap();
        disk.set_len(GIB).unwrap();
        let esp = dir.path().join("esp");
        fs::create_dir(&esp).unwrap();
        File::create_new(esp.join("big")).unwrap().set_len(ESP_SIZE).unwrap();
        assert!(write_esp(&file, 0, 1, &esp).is_err());
    }

    #[test]
    fn mke2fs_is_told_everything() {
        insta::assert_debug_snapshot!(layout(4 * GIB).mke2fs(E2fsprogs(1, 47)));
        let old = layout(4 * GIB).mke2fs(E2fsprogs(1, 46));
        assert!(!old.args.iter().any(|arg| arg.contains("prezeroed")));
    }

    #[test]
    fn versions() {
        let cases = [
            ("mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library version 1.47.0\n", E2fsprogs(1, 47)),
            ("mke2fs 1.46-WIP (x)", E2fsprogs(1, 46)),
            ("", E2fsprogs(0, 0)),
            ("mke2fs next", E2fsprogs(0, 0)),
        ];
        for (output, version) in cases {
            assert_eq!(E2fsprogs::parse(output), version, "{output}");
        }
        assert!(E2fsprogs(1, 100) > E2fsprogs(1, 47) && E2fsprogs(2, 0) > E2fsprogs(1, 47));
    }
}
