"""Stage: Great Expectations on the raw log; broken rows to quarantine; the first quality gate."""

import shutil
from pathlib import Path

from common import params, stage
from common.errors import ValidationError
from common.files import replacing_folder
from features.schema import read_schema


def validate(*, schema: Path, ingested: Path, out: Path, quarantine: Path, report: Path, docs: Path) -> None:
    """Check events, users and items under `ingested`; write the accepted rows to `out`, the others to `quarantine`.

    Writes reports/validation.json (`report`) and Data Docs (`docs`) in either case; raises ValidationError if the
    data broke a rule beyond the tolerance in params.yaml.

    Args:
        schema: Declaration of the data set.
        ingested: Folder of the tables that are checked.
        out: Folder for the accepted rows.
        quarantine: Folder for the broken rows with their reasons.
        report: JSON report that is written.
        docs: Folder of the Data Docs that are written.
    """
    from features.quality.raw_log import check_raw_log, failure_message, limit_timestamps, write_report

    settings = params.load().validation
    declared = limit_timestamps(read_schema(schema), settings.not_after)
    with replacing_folder(out) as accepted, replacing_folder(quarantine) as broken:
        results = check_raw_log(
            declared, ingested=ingested, out=accepted, quarantine=broken, tolerance=settings.tolerance
        )
    write_report(results, name=declared.name, report=report, docs=docs)
    if not all(result.passed for result in results):
        shutil.rmtree(out)  # so that it is not taken for accepted data
        raise ValidationError(failure_message(results, report=report, docs=docs, quarantine=quarantine))
    for result in reversed(results):
        print(result.summary(), flush=True)


if __name__ == "__main__":
    stage.run(validate)
