"""The one operation that ultralytics calls."""


def nms(boxes, scores, iou_threshold):
    """Rows of the boxes to keep, best first."""
    from ultralytics.utils.nms import TorchNMS

    return TorchNMS.nms(boxes, scores, iou_threshold)
