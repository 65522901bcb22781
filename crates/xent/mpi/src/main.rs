//! A vocabulary in shards over MPI: every process has the logits of some classes, and the loss and
//! gradient are compared with those of one process that has them all.
//!
//!     crates/xent/mpi/run [processes]

use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use xent::shards::{AllGather, ShardError, Shards};
use xent::{Batch, Config, Rows, RowsMut};

/// MPI's default is to end all processes on an error, so that none is returned.
struct Mpi(SimpleCommunicator);

impl AllGather for Mpi {
    type Error = std::convert::Infallible;

    fn rank(&self) -> usize {
        self.0.rank() as usize
    }

    fn size(&self) -> usize {
        self.0.size() as usize
    }

    fn all_gather(&self, mine: &[f64], all: &mut [f64]) -> Result<(), Self::Error> {
        self.0.all_gather_into(mine, all);
        Ok(())
    }
}

const ROWS: usize = 64;
const CLASSES: usize = 32_003;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let universe = mpi::initialize().ok_or("MPI runs already")?;
    let group = Mpi(universe.world());
    let (rank, size) = (group.rank(), group.size());
    // Uneven: rank r has the share r + 1 of the classes, and rank 0 none where there are several.
    let shares = size * (size - 1) / 2;
    let end = |rank: usize| match size {
        1 => CLASSES,
        _ => CLASSES * (rank * (rank + 1) / 2) / shares,
    };
    let here = if rank == 0 { 0..end(0) } else { end(rank - 1)..end(rank) };

    let logits: Vec<f32> =
        (0..ROWS * CLASSES).map(|i| (i * 2_654_435_761 % 16_381) as f32 / 1024.0 - 8.0).collect();
    let targets: Vec<i64> = (0..ROWS)
        .map(|row| if row % 5 == 4 { -100 } else { (row * 499 % CLASSES) as i64 })
        .collect();
    let criterion = Config::new().label_smoothing(0.1).ignore_index(-100).z_loss(1e-4).build()?;

    let mut shards = Shards::new(group, here.clone())?;
    let mine: Vec<f32> =
        logits.chunks(CLASSES).flat_map(|row| &row[here.clone()]).copied().collect();
    let mut gradient = vec![0f32; mine.len()];
    let view = (!here.is_empty()).then(|| Rows::new(&mine, here.len())).transpose()?;
    let mut place =
        (!here.is_empty()).then(|| RowsMut::new(&mut gradient, here.len())).transpose()?;
    let both = view.as_ref().zip(place.as_mut());
    let output =
        criterion.forward_backward_sharded(both, Batch::new(&targets), 1.0, &mut shards)?;

    // The same with all logits in one process.
    let (whole, expected) = criterion.loss_and_gradient(&Rows::new(&logits, CLASSES)?, &targets)?;
    let expected: Vec<f32> =
        expected.chunks(CLASSES).flat_map(|row| &row[here.clone()]).copied().collect();
    let apart = |a: &[f32], b: &[f32]| {
        let largest = b.iter().fold(1e-30, |largest: f32, b| largest.max(b.abs()));
        a.iter().zip(b).fold(0.0, |apart: f32, (a, b)| apart.max((a - b).abs())) / largest
    };
    let loss = output.loss.as_slice()[0];
    let of_loss = apart(output.loss.as_slice(), whole.loss.as_slice());
    let of_gradient = apart(&gradient, &expected);
    println!(
        "rank {rank} of {size}: classes {here:?}, loss {loss} ({:08x}), apart from one process: loss {of_loss:.1e}, gradient {of_gradient:.1e}",
        loss.to_bits(),
    );
    assert!(of_loss < 2e-7 && of_gradient < 1e-6);
    assert_eq!((output.correct, output.ignored), (whole.correct, whole.ignored));
    let mut bits = vec![0u32; size];
    shards.group().0.all_gather_into(&loss.to_bits(), &mut bits[..]);
    assert!(bits.iter().all(|other| *other == loss.to_bits()), "the loss differs between ranks");

    // A label that is no class, on the last rank only: all ranks say so.
    let mut wrong = targets.clone();
    if rank + 1 == size {
        wrong[0] = CLASSES as i64;
    }
    let refused = criterion.forward_sharded(view.as_ref(), &wrong, &mut shards);
    match refused {
        Err(ShardError::Call { error, .. }) => println!("rank {rank} refused: {error}"),
        Err(ShardError::OtherRank { rank: other }) if other + 1 == size => {}
        other => return Err(format!("{other:?} for a label that is no class").into()),
    }
    Ok(())
}
