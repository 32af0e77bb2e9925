//! Dates in a fresh ext4: `mke2fs -d` copies the time at which each file's record last changed on the host, which no
//! program can set, so two builds of the same content would differ. This rewrites them in place.
//!
//! Layout from the kernel's documentation, filesystems/ext4 (super block, group descriptors, inodes, checksums).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crc::{CRC_32_ISCSI, Crc};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

const MAGIC: u16 = 0xEF53;
const INCOMPAT_64BIT: u32 = 0x80;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
const GROUP_INODES_UNUSED: u16 = 0x1;

/// What of the super block says where inodes are.
struct Geometry {
    block_size: u64,
    inodes_per_group: u64,
    inode_size: usize,
    groups: u64,
    first_data_block: u64,
    descriptor_size: usize,
    checksums: bool,
    uuid: [u8; 16],
}

/// Gives every file of the file system at `start` of `disk` one date: that of its content, but none after `epoch`
/// (seconds since 1970).
///
/// # Errors
/// When the disk cannot be read or written or holds no ext4 that we know.
pub(super) fn settle_dates(disk: &mut File, start: u64, epoch: i64) -> io::Result<()> {
    let epoch = u32::try_from(epoch).map_err(|_| broken("a date that ext4 cannot hold"))?;
    let geometry = geometry(disk, start)?;
    let mut descriptors =
        vec![0; usize::try_from(geometry.groups).map_err(io::Error::other)? * geometry.descriptor_size];
    disk.read_exact_at(&mut descriptors, start + (geometry.first_data_block + 1) * geometry.block_size)?;
    for (group, descriptor) in descriptors.chunks_exact(geometry.descriptor_size).enumerate() {
        let (table, used) = inodes_of(&geometry, descriptor);
        if used == 0 {
            continue;
        }
        let at = start + table * geometry.block_size;
        let mut inodes = vec![0; usize::try_from(used).map_err(io::Error::other)? * geometry.inode_size];
        disk.read_exact_at(&mut inodes, at)?;
        let first = group as u64 * geometry.inodes_per_group + 1;
        for (index, inode) in inodes.chunks_exact_mut(geometry.inode_size).enumerate() {
            let number = u32::try_from(first + index as u64).map_err(io::Error::other)?;
            settle(inode, epoch);
            if geometry.checksums {
                sign(inode, number, &geometry.uuid);
            }
        }
        disk.write_all_at(&inodes, at)?;
    }
    Ok(())
}

fn geometry(disk: &File, start: u64) -> io::Result<Geometry> {
    let mut block = [0; 1024];
    disk.read_exact_at(&mut block, start + 1024)?;
    if u16_at(&block, 0x38) != MAGIC {
        return Err(broken("no ext4"));
    }
    let blocks = u64::from(u32_at(&block, 0x04)) | u64::from(u32_at(&block, 0x150)) << 32;
    let blocks_per_group = u64::from(u32_at(&block, 0x20));
    let inode_size = usize::from(u16_at(&block, 0x58));
    let shift = u32_at(&block, 0x18);
    if blocks_per_group == 0 || !(256..=4096).contains(&inode_size) || shift > 6 {
        return Err(broken("an ext4 of an unknown make"));
    }
    let wide = u32_at(&block, 0x60) & INCOMPAT_64BIT != 0;
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&block[0x68..0x78]);
    Ok(Geometry {
        block_size: 1024 << shift,
        inodes_per_group: u64::from(u32_at(&block, 0x28)),
        inode_size,
        groups: blocks.div_ceil(blocks_per_group),
        first_data_block: u64::from(u32_at(&block, 0x14)),
        descriptor_size: if wide { usize::from(u16_at(&block, 0xFE)).max(64) } else { 32 },
        checksums: u32_at(&block, 0x64) & RO_COMPAT_METADATA_CSUM != 0,
        uuid,
    })
}

/// The group's inode table, as a block, and how many inodes at its beginning were ever used.
fn inodes_of(geometry: &Geometry, descriptor: &[u8]) -> (u64, u64) {
    let mut table = u64::from(u32_at(descriptor, 0x08));
    let mut unused = u64::from(u16_at(descriptor, 0x1C));
    if descriptor.len() >= 64 {
        table |= u64::from(u32_at(descriptor, 0x28)) << 32;
        unused |= u64::from(u16_at(descriptor, 0x32)) << 16;
    }
    let none = u16_at(descriptor, 0x12) & GROUP_INODES_UNUSED != 0;
    let used = if none { 0 } else { geometry.inodes_per_group.saturating_sub(unused) };
    (table, used)
}

/// One date for access, change, content and creation. The parts below a second (and beyond 2038) are zero.
fn settle(inode: &mut [u8], epoch: u32) {
    let in_use = u16_at(inode, 0) != 0;
    if !in_use {
        return;
    }
    let date = u32_at(inode, 0x10).min(epoch).to_le_bytes();
    for at in [0x08, 0x0C, 0x10] {
        inode[at..at + 4].copy_from_slice(&date);
    }
    if extra_size(inode) >= 24 {
        inode[0x84..0x98].fill(0);
        inode[0x90..0x94].copy_from_slice(&date);
    }
}

/// The inode's checksum, over the file system's id, the inode's number and generation, and the inode without it.
fn sign(inode: &mut [u8], number: u32, uuid: &[u8; 16]) {
    if inode.iter().all(|byte| *byte == 0) {
        return;
    }
    inode[0x7C..0x7E].fill(0);
    let long = extra_size(inode) >= 4;
    if long {
        inode[0x82..0x84].fill(0);
    }
    let mut digest = CRC.digest();
    digest.update(uuid);
    digest.update(&number.to_le_bytes());
    digest.update(&inode[0x64..0x68]);
    digest.update(inode);
    // ext4 leaves out the inversion at the end.
    let sum = (!digest.finalize()).to_le_bytes();
    inode[0x7C..0x7E].copy_from_slice(&sum[..2]);
    if long {
        inode[0x82..0x84].copy_from_slice(&sum[2..]);
    }
}

/// How many bytes after the first 128 hold fields; what follows are extended attributes.
fn extra_size(inode: &[u8]) -> u16 {
    u16_at(inode, 0x80)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
