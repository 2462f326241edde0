"""Pure kernels: unbatched, fixed shapes, boolean masks; batch them with `jax.vmap`.

    boxes      iou  intersection_over_area  encode_boxes  decode_boxes  clip_boxes  extend_boxes
    anchors    anchor_boxes  default_boxes
    matching   match
    assignment assign
    sampling   sample  hard_negatives
    roi        roi_align  position_sensitive_roi
    image      resize_align_corners  crop_boxes  grids  sample_grid  sample_points
    heatmaps   disk_targets  gaussian_targets  limb_targets
    hough      hough_vote  gaussian_vote  mean_shift
    oks        oks  pairwise_oks
    nms        greedy_nms  box_nms  oks_nms
    partition  partition  partition_energy  partition_in_stages
    parts      part_targets  pair_statistics
    candidates find_candidates
    pair_costs pair_features  pair_costs  log_odds
    tree_walk  tree_walk
    assemble   assemble

Every kernel computes in float32 whatever floats it is given, carries no `jit` of its own, takes its
options by keyword, accepts axes of size 0 and breaks ties by the lowest index. Frames as in
`g_rmi.types`.
"""
