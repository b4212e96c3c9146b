/* Which side of a pair is ahead, in a word, as `compare` decides it. `report.js` calls it.

   mean, low, high: of the difference, and of its interval; low and high are null if there is none.
   n: pictures. few: with fewer pictures nothing is called tied. higher: whether higher values are better.
   spread: what another seed of training moves the difference by; 0 if that was not measured, null if cells of a training
   are absent. */
const verdictOf = ({ mean, low, high, n, spread }, few, higher) => {
  if (low === null) return "no interval";
  if (low * high <= 0) return n < few && low < high ? "undecided" : "tied";
  if (mean * low <= 0) return "undecided"; // a biased interval may lie on the other side of 0 than its mean
  if (spread === null || Math.abs(mean) < spread) return "undecided";
  return mean > 0 === higher ? "ahead" : "behind";
};
